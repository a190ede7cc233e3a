//! The callback of a standby: connections of runners are passed on to the leader, byte by byte. TLS ends there.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::metrics::Metrics;
use super::seats::{Seat, Seats};
use crate::leader::Role;

/// How long the leader may take to accept: a runner waits for two seconds in all.
const CONNECT: Duration = Duration::from_secs(1);

/// Passes connections on until it is dropped, and with it they end. Where nobody leads they are closed at once: what a
/// runner ends with counts without the callback, too.
///
/// There are as many at a time as the leader serves. One that says nothing ends with the leader's patience for its
/// handshake, and all end where another one leads.
///
/// `port`: the leader's, where it is not that of the callback.
pub async fn forward(
    listener: &TcpListener,
    port: Option<u16>,
    mut role: watch::Receiver<Role>,
    metrics: &Metrics,
) {
    let (seats, mut all) = (Seats::default(), JoinSet::new());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Some(mut leader) = leader(&role.borrow()) else {
                        metrics.refused("NoLeader");
                        continue;
                    };
                    leader.set_port(port.unwrap_or(leader.port()));
                    let Some(seat) = seats.take(None) else {
                        metrics.refused("TooManyConnections");
                        continue;
                    };
                    let id = seat.id();
                    let task = all.spawn(pass(stream, leader, seat));
                    seats.ends_by(id, task);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a callback connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Ok(()) = role.changed() => all.abort_all(),
            Some(_) = all.join_next() => {}
        }
    }
}

fn leader(role: &Role) -> Option<SocketAddr> {
    match role {
        Role::Standby { address, .. } => *address,
        Role::Starting | Role::Leader => None,
    }
}

/// Until either of both has ended: a runner that has sent all waits for the answer with its side open, and what the leader
/// has answered is written before its end is seen.
async fn pass(mut runner: TcpStream, leader: SocketAddr, seat: Seat) {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(leader)).await;
    let mut leader = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(%leader, %error, "a callback was not passed on");
        }
        Err(_) => return tracing::debug!(%leader, "a callback was not passed on: timed out"),
    };
    let (mut from_runner, mut to_runner) = runner.split();
    let (mut from_leader, mut to_leader) = leader.split();
    let ended = tokio::select! {
        ended = copy(&mut from_runner, &mut to_leader) => ended,
        ended = copy(&mut from_leader, &mut to_runner) => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a callback that is passed on ended early");
    }
    drop(seat);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn local() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn led_from(address: Option<SocketAddr>) -> Role {
        Role::Standby {
            leader: "whittle-a".into(),
            address,
        }
    }

    /// A standby that knows this leader: where it listens, and what it knows.
    async fn standby(of: Option<SocketAddr>) -> (SocketAddr, watch::Sender<Role>, Metrics) {
        let (listener, address) = local().await;
        let (know, role) = watch::channel(led_from(of));
        let metrics = Metrics::default();
        let counting = metrics.clone();
        tokio::spawn(async move { forward(&listener, None, role, &counting).await });
        (address, know, metrics)
    }

    #[tokio::test]
    async fn a_connection_is_passed_on_both_ways_and_ends_with_the_leaders() {
        let (leader, address) = local().await;
        let (door, _know, _) = standby(Some(address)).await;
        let mut runner = TcpStream::connect(door).await.unwrap();
        runner.write_all(b"report").await.unwrap();
        let (mut at_leader, _) = leader.accept().await.unwrap();
        let mut said = [0; 6];
        at_leader.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"report");
        at_leader.write_all(b"taken").await.unwrap();
        drop(at_leader);
        let mut answer = String::new();
        runner.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "taken");
    }

    #[tokio::test]
    async fn where_nobody_leads_or_nobody_says_from_where_it_is_closed_at_once() {
        let (door, know, metrics) = standby(None).await;
        for role in [led_from(None), Role::Starting] {
            know.send_replace(role);
            let mut runner = TcpStream::connect(door).await.unwrap();
            // Reset or ended: nothing was read of what it said.
            assert!(matches!(runner.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        }
        let line = r#"whittle_callbacks_refused_total{reason="NoLeader"} 2"#;
        assert!(metrics.text().contains(line), "{}", metrics.text());
    }

    #[tokio::test]
    async fn where_another_one_leads_the_connections_to_the_one_before_end() {
        let (before, address) = local().await;
        let (door, know, _) = standby(Some(address)).await;
        let mut runner = TcpStream::connect(door).await.unwrap();
        let (_held_open, _) = before.accept().await.unwrap();
        let (_other, other) = local().await;
        know.send_replace(led_from(Some(other)));
        assert!(matches!(runner.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    }
}
