//! Certificates fetched from a real ACME server (pebble): it validates over TLS-ALPN-01 at this server's own port.

// A test may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{PATIENCE, TestServer};
use headwater_signal::{Acme, TlsSource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Names that only this test's DNS server knows.
const DOMAINS: [&str; 2] = ["signal.video.example", "www.video.example"];

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
    let missing = "this test needs pebble: apt-get install pebble, or see https://github.com/letsencrypt/pebble";
    Process(command.spawn().expect(missing))
}

/// Free ports, as far as one can know.
fn ports<const N: usize>() -> [u16; N] {
    let open = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    open.map(|listener| listener.local_addr().unwrap().port())
}

/// An ACME server that validates at a port of this machine, and the DNS server that sends it there.
struct Authority {
    folder: PathBuf,
    directory: String,
    management: u16,
    running: Option<(Process, Process)>,
}

impl Authority {
    async fn start(name: &str, validates_at: u16) -> Self {
        let folder = std::env::temp_dir().join(format!("headwater-acme-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [listen, management, dns, http] = ports();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        fs::write(folder.join("pebble.pem"), made.cert.pem()).unwrap();
        fs::write(folder.join("pebble.key"), made.signing_key.serialize_pem()).unwrap();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": folder.join("pebble.pem"), "privateKey": folder.join("pebble.key"),
            "httpPort": http, "tlsPort": validates_at, "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        let file = folder.join("pebble.json");
        fs::write(&file, config.to_string()).unwrap();
        let dns_addr = format!("127.0.0.1:{dns}");
        let names = start(
            "pebble-challtestsrv",
            &["-dns01", &dns_addr, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", ""]
                .iter()
                .copied()
                .chain(["-tlsalpn01", "", "-management", ""])
                .collect::<Vec<_>>(),
            &[],
        );
        // Without the pauses and the refusals by lot that pebble has to try clients with.
        let environment = [("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0")];
        let arguments = ["-config", file.to_str().unwrap(), "-dnsserver", &dns_addr, "-strict"];
        let authority = start("pebble", &arguments, &environment);
        let directory = format!("https://localhost:{listen}/dir");
        let running = Some((names, authority));
        let authority = Self { folder, directory, management, running };
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", management)).await.is_err() {
            assert!(begin.elapsed() < PATIENCE, "pebble does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        authority
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("pebble.pem")
    }

    /// The root of the certificates that it signs.
    async fn root(&self) -> CertificateDer<'static> {
        let ca = CertificateDer::from_pem_file(self.ca()).unwrap();
        let addr = ([127, 0, 0, 1], self.management).into();
        let page = get(addr, "localhost", &ca, "/roots/0").await.unwrap();
        CertificateDer::from_pem_slice(page.as_bytes()).unwrap()
    }

    fn acme(&self) -> Acme {
        Acme {
            domains: DOMAINS.map(str::to_owned).to_vec(),
            contacts: vec!["ops@video.example".to_owned()],
            cache: self.folder.join("cache"),
            directory: self.directory.clone(),
            ca: Some(self.ca()),
        }
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

async fn handshake(
    addr: SocketAddr,
    name: &str,
    root: &CertificateDer<'static>,
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| error.to_string())
}

async fn get(addr: SocketAddr, name: &str, root: &CertificateDer<'static>, path: &str) -> Result<String, String> {
    let mut stream = handshake(addr, name, root).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // Some servers close without saying so.
    let _ = stream.read_to_end(&mut bytes).await;
    Ok(String::from_utf8(bytes).unwrap())
}

async fn serve(port: u16, acme: &Acme) -> TestServer {
    TestServer::start_with(|options| {
        options.listen = ([127, 0, 0, 1], port).into();
        options.tls = Some(TlsSource::Acme(acme.clone()));
    })
    .await
}

/// Waits until the server shows a certificate that the root vouches for.
async fn serves(server: &TestServer, name: &str, root: &CertificateDer<'static>) {
    let begin = Instant::now();
    loop {
        match get(server.addr, name, root, "/healthz").await {
            Ok(page) => return assert!(page.starts_with("HTTP/1.1 200 "), "{page}"),
            Err(error) => assert!(begin.elapsed() < 3 * PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_certificate_is_fetched_validated_kept_and_used_again() {
    let [port] = ports();
    let mut authority = Authority::start("fetch", port).await;
    let acme = authority.acme();
    let mut server = serve(port, &acme).await;
    let root = authority.root().await;
    for name in DOMAINS {
        serves(&server, name, &root).await;
    }
    // It is for these names and no others.
    assert!(handshake(server.addr, "other.example", &root).await.is_err());
    let kept = files(&acme.cache);
    assert_eq!(kept.len(), 2, "{kept:?}");
    #[cfg(unix)]
    for file in &kept {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    server.stop();
    server.stopped().await;
    // Without the authority, the next server goes on with what is kept.
    authority.running = None;
    let server = serve(port, &acme).await;
    serves(&server, DOMAINS[0], &root).await;
    assert_eq!(files(&acme.cache), kept);
}

#[tokio::test]
async fn an_authority_that_cannot_validate_leaves_the_server_running_without_a_certificate() {
    let [port, elsewhere] = ports();
    let authority = Authority::start("refuse", elsewhere).await;
    let server = serve(port, &authority.acme()).await;
    let root = authority.root().await;
    // The account is made before the authority looks; then nothing comes of it.
    let begin = Instant::now();
    while !authority.acme().cache.is_dir() {
        assert!(begin.elapsed() < PATIENCE, "the authority was not asked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(handshake(server.addr, DOMAINS[0], &root).await.is_err());
    assert!(TcpStream::connect(server.addr).await.is_ok());
}
