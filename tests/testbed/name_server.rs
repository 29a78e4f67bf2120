//! The DNS server of somebody hostile, who answers each question about a name as it suits them. A real server gives a name's
//! addresses to whoever asks; this one gives one for the check and another for the connection (DNS rebinding).

use super::Result;
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, ResourceRecord, TYPE};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UdpSocket;

/// A name server on a loopback address of its own.
pub struct NameServer {
    address: Ipv4Addr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl NameServer {
    /// Serves for as long as the runtime. `answer` is given a name and how often its IPv4 addresses have been asked for by now, this
    /// time included. `None` where we may not have the port that resolvers ask, which is root's.
    pub async fn start(answer: impl Fn(&str, usize) -> Vec<IpAddr> + Send + 'static) -> Result<Option<Self>> {
        // Other runs on this machine have theirs.
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 64 | (high & 63), middle, low);
        let socket = match UdpSocket::bind((address, 53)).await {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
            bound => bound?,
        };
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let counts = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                let Ok(query) = Packet::parse(&buffer[..length]) else { continue };
                let Ok(reply) = reply(query, &counts, &answer) else { continue };
                let _ = socket.send_to(&reply, peer).await;
            }
        });
        Ok(Some(Self { address, asked }))
    }

    /// How often a name's IPv4 addresses were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or_default()
    }

    /// A program that runs `binary` where names are resolved by us, and nothing else differs.
    pub fn resolving(&self, folder: &Path, binary: &Path) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let (configuration, program) = (folder.join("resolv.conf"), folder.join("resolving"));
        std::fs::write(&configuration, format!("nameserver {}\n", self.address))?;
        let script = format!(
            "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"' sh '{}' '{}' \"$@\"\n",
            configuration.display(),
            binary.display(),
        );
        std::fs::write(&program, script)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        Ok(program)
    }
}

fn reply(
    query: Packet<'_>,
    counts: &Mutex<HashMap<String, usize>>,
    answer: &impl Fn(&str, usize) -> Vec<IpAddr>,
) -> std::result::Result<Vec<u8>, simple_dns::SimpleDnsError> {
    let mut reply = query.into_reply();
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    let mut records = vec![];
    for question in &reply.questions {
        let name = question.qname.to_string().to_ascii_lowercase();
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name.clone()).or_default();
        let of_v4 = question.qtype == QTYPE::TYPE(TYPE::A);
        *count += usize::from(of_v4);
        for address in answer(&name, *count) {
            let data = match address {
                IpAddr::V4(address) if of_v4 => RData::A(A { address: address.into() }),
                IpAddr::V6(address) if question.qtype == QTYPE::TYPE(TYPE::AAAA) => RData::AAAA(AAAA { address: address.into() }),
                _ => continue,
            };
            records.push(ResourceRecord::new(question.qname.clone(), CLASS::IN, 0, data));
        }
    }
    reply.answers = records;
    reply.build_bytes_vec()
}
