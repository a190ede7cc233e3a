//! The controller on a real etcd and API server. There is no kubelet here: the tests play it, so that
//! they can stop at any moment of a build and see what the controller makes of it.
//!
//! The controller runs as its own process, with the permissions of the chart and no others.

mod api_server;
mod bounds;
mod builds;
mod callback;
mod certificates;
mod clock;
mod crashes;
mod due;
mod faults;
mod finished;
mod flux;
mod gitops;
mod guard_tenants;
mod installations;
mod installing;
mod kills;
mod kubelet;
mod leader;
mod lists;
mod many;
mod metrics;
mod minimize;
mod network;
mod notifications;
mod platforms;
mod policies;
mod proxy;
mod queue;
mod refusals;
mod replicas;
mod requests;
mod rights;
mod rollback;
mod rules;
mod shared;
mod silent;
mod stage;
mod standby;
mod steps;
mod submodules;
mod traces;
mod triggers;
mod volume;
mod watcher;
mod wire;
