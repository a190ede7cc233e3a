//! The network between a controller and its API server: packets may get lost on it, of which nobody is told.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::api_server::ApiServer;

/// What becomes of packets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packets {
    Flow,
    /// None arrives; connections stay open at both ends.
    Drop,
}

/// A network.
#[derive(Clone)]
pub struct Wire {
    port: u16,
    packets: Arc<watch::Sender<(Packets, usize)>>,
}

impl Wire {
    /// To this API server.
    pub async fn to(server: &ApiServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (url, _) = server.address();
        let target = url.trim_start_matches("https://").to_owned();
        let packets = Arc::new(watch::Sender::new((Packets::Flow, 0)));
        let of_all = packets.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&target).await;
                tokio::spawn(carry(near, far.ok(), of_all.subscribe()));
            }
        });
        Self { port, packets }
    }

    /// Path of a kubeconfig that leads over it, with the controller's own permissions.
    pub fn kubeconfig(&self, server: &ApiServer) -> PathBuf {
        server.controllers_kubeconfig_at(&format!("https://127.0.0.1:{}", self.port))
    }

    /// Nothing arrives any more.
    pub fn drops(&self) {
        self.packets
            .send_modify(|(packets, _)| *packets = Packets::Drop);
    }

    /// All arrives again, also what was sent meanwhile.
    pub fn flows(&self) {
        self.packets
            .send_modify(|(packets, _)| *packets = Packets::Flow);
    }

    /// Of connections that are there nothing arrives for good, as where something between has forgotten them; new
    /// ones are as usual.
    pub fn forgets(&self) {
        self.packets.send_modify(|(_, age)| *age += 1);
    }
}

async fn carry(
    near: TcpStream,
    far: Option<TcpStream>,
    packets: watch::Receiver<(Packets, usize)>,
) {
    let Some(far) = far else { return };
    let (mut near, mut far) = (near.into_split(), far.into_split());
    // Whichever end closes, closes both.
    tokio::select! {
        () = one_way(&mut near.0, &mut far.1, packets.clone()) => {}
        () = one_way(&mut far.0, &mut near.1, packets) => {}
    }
}

async fn one_way(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut packets: watch::Receiver<(Packets, usize)>,
) {
    let (_, age) = *packets.borrow();
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        // Its sender would send it again.
        let flows = packets.wait_for(|(state, now)| *state == Packets::Flow && *now == age);
        if flows.await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
