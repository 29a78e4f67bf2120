//! A real nginx.

use super::Result;
use super::process::{Process, folder};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// An nginx with servers of the story's own.
pub struct Nginx {
    process: Process,
    port: u16,
    /// Where its files are.
    pub folder: PathBuf,
}

/// Whether to go without it, as told; else its absence is a failure.
pub fn skip() -> bool {
    let skip = version().is_err() && std::env::var("WITHOUT_DEBIAN").is_ok_and(|value| value == "1");
    if skip {
        eprintln!("SKIPPED, as told by WITHOUT_DEBIAN=1: this test needs nginx, which is not installed");
    }
    skip
}

/// Its version, such as `1.22.1`.
pub fn version() -> Result<String> {
    let output = Command::new("nginx").arg("-v").output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(text.split("nginx/").nth(1).ok_or("no version")?.trim().to_owned())
}

/// Whether it is of a version whose answers are known; says so loudly where it is not.
pub fn is(known: &str) -> Result<bool> {
    let version = version()?;
    let is = version.starts_with(known);
    if !is {
        eprintln!("SKIPPED: what nginx answers is known of {known}, and this is {version}; only the proxy is judged");
    }
    Ok(is)
}

impl Nginx {
    /// Starts it with these `server` blocks, the first of which listens at this port. `{folder}` in them is its folder.
    pub async fn start(name: &str, port: u16, servers: &str) -> Result<Self> {
        let folder = folder(name)?;
        std::fs::create_dir_all(folder.join("temporary"))?;
        let servers = servers.replace("{folder}", &folder.display().to_string());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/temporary/{kind};\n", folder.display()))
            .concat();
        let log = "log_format requests escape=json '{\"method\":\"$request_method\",\"uri\":\"$request_uri\",\"status\":$status,\
            \"authorization\":\"$http_authorization\",\"connection\":$connection,\"nth\":$connection_requests,\
            \"protocol\":\"$server_protocol\",\"server\":\"$server_port\",\"expect\":\"$http_expect\",\"range\":\"$http_range\"}';";
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {0}/nginx.pid;\nerror_log {0}/error.log info;\nevents {{ worker_connections 2048; }}\n\
             http {{\n{temporary}{log}\naccess_log {0}/access.log requests;\ndefault_type application/octet-stream;\n{servers}\n}}\n",
            folder.display()
        );
        std::fs::write(folder.join("nginx.conf"), configuration)?;
        let file = folder.join("nginx.conf").display().to_string();
        let arguments = ["-p".to_owned(), folder.display().to_string(), "-e".into(), "stderr".into(), "-c".into(), file];
        let process = Process::start("nginx", &folder, Path::new("nginx"), &arguments, &[])?;
        let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
        process.until("listening", Duration::from_secs(10), listens).await?;
        Ok(Self { process, port, folder })
    }

    /// Requests that it has answered, of whatever a story has asked for by name.
    pub fn requests(&self) -> Result<Vec<Value>> {
        // It logs a request after the last of its answer has gone. It does one thing after the other: when it answers again, it
        // has logged all before.
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.write_all(b"GET /logged HTTP/1.0\r\n\r\n")?;
        connection.read_to_end(&mut vec![])?;
        let text = std::fs::read_to_string(self.folder.join("access.log"))?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}
