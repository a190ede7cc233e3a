//! What the processes of controllers take. The local cluster's are processes of this machine as any others.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::bench::Result;

pub struct Controller {
    /// Of the Pod's first container.
    pub name: String,
    processes: Vec<u32>,
}

pub struct Used {
    pub mebibytes: f64,
    pub milliseconds: f64,
}

/// The controllers whose Pods have these labels.
pub async fn controllers(client: &Client, labels: &str) -> Result<Vec<Controller>> {
    let pods = Api::<Pod>::all(client.clone());
    let pods = pods.list(&ListParams::default().labels(labels)).await?;
    let mut all = vec![];
    for pod in pods {
        // The one before is on its way out.
        if pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let uid = pod.uid().unwrap_or_default();
        let container = pod.spec.and_then(|spec| spec.containers.into_iter().next());
        let name = container.map(|it| it.name).unwrap_or_default();
        let processes = processes(&uid)?;
        if processes.is_empty() {
            return Err(format!("no process of {name} is on this machine").into());
        }
        all.push(Controller { name, processes });
    }
    if all.is_empty() {
        return Err(format!("no Pod has the labels {labels}").into());
    }
    Ok(all)
}

/// Those in the control groups of a Pod, but for the one that holds its namespaces.
fn processes(uid: &str) -> Result<Vec<u32>> {
    let pod = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
    let mut all = vec![];
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().and_then(|it| it.parse().ok()) else {
            continue;
        };
        // It may end meanwhile.
        let read = |name: &str| std::fs::read_to_string(entry.path().join(name));
        let groups = read("cgroup").unwrap_or_default();
        let is_pause = read("comm").is_ok_and(|name| name.trim() == "pause");
        if !is_pause && pod.iter().any(|pod| groups.contains(pod)) {
            all.push(id);
        }
    }
    Ok(all)
}

pub fn used(controller: &Controller) -> Result<Used> {
    let mut sum = Used {
        mebibytes: 0.0,
        milliseconds: 0.0,
    };
    for id in &controller.processes {
        let folder = Path::new("/proc").join(id.to_string());
        let read = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name));
            text.map_err(|error| format!("{} has restarted: {error}", controller.name))
        };
        let status = read("status")?;
        let resident = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
        let kibibytes: f64 = resident
            .and_then(|it| it.trim().strip_suffix(" kB"))
            .ok_or("a status without VmRSS")?
            .parse()?;
        sum.mebibytes += kibibytes / 1024.0;
        let stat = read("stat")?;
        // After the name, which may hold anything; the kernel counts hundredths of a second.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        for at in [11, 12] {
            let ticks: f64 = fields.get(at).ok_or("a stat without times")?.parse()?;
            sum.milliseconds += ticks * 10.0;
        }
    }
    Ok(sum)
}
