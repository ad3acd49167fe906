use std::net::Ipv4Addr;

use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signer, SigningKey};
use http::{Request, Response};
use hyper::body::Incoming;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::super::{Listener, ListenerOptions, Peer, Serve};
use super::*;
use crate::gateway::respond::ResponseBody;

/// Says whether the connection was encrypted.
struct Says;

impl Serve for Says {
    async fn serve(&self, peer: &Peer, _request: Request<Incoming>) -> Response<ResponseBody> {
        Response::new(ResponseBody::full(format!("tls {}", peer.is_tls)))
    }
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    bytes.extend_from_slice(content);
    bytes
}

fn bits(content: &[u8]) -> Vec<u8> {
    der(0x03, &[&[0], content].concat())
}

/// A certificate that its own key signed, made by hand: enough for a handshake.
fn write_pair(folder: &Path, key: &SigningKey) -> (PathBuf, PathBuf) {
    let algorithm = der(0x30, &[0x06, 0x03, 0x2b, 0x65, 0x70]);
    let name = der(0x30, &[]);
    let validity = der(0x30, &[der(0x17, b"200101000000Z"), der(0x17, b"490101000000Z")].concat());
    let public = der(0x30, &[algorithm.clone(), bits(key.verifying_key().as_bytes())].concat());
    let version = der(0xa0, &[0x02, 0x01, 0x02]);
    let serial = vec![0x02, 0x01, 0x01];
    let body = der(0x30, &[version, serial, algorithm.clone(), name.clone(), validity, name, public].concat());
    let signature = key.sign(&body).to_bytes();
    let certificate = der(0x30, &[body, algorithm, bits(&signature)].concat());
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let (certificate_file, key_file) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&certificate_file, format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"))
        .unwrap();
    std::fs::write(&key_file, key.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
    (certificate_file, key_file)
}

/// Believes one certificate, whoever signed it.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The answer, and the certificate it came with.
async fn get(address: std::net::SocketAddr) -> (String, Vec<u8>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let certificate = stream.get_ref().1.peer_certificates().unwrap().first().unwrap().to_vec();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    (text, certificate)
}

#[tokio::test]
async fn a_changed_certificate_serves_the_next_connection_and_a_broken_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = write_pair(folder.path(), &SigningKey::from_bytes(&[1; 32]));
    let tls = Tls::load(&certificate, &key).unwrap();
    let options = ListenerOptions { handshake: Some(Arc::clone(&tls) as _), ..ListenerOptions::default() };
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), options).await.unwrap();
    let server = listener.serve(Arc::new(Says)).unwrap();
    let (answer, first) = get(server.address()).await;
    assert!(answer.ends_with("tls true"), "{answer}");

    write_pair(folder.path(), &SigningKey::from_bytes(&[2; 32]));
    tls.reload();
    let (_, second) = get(server.address()).await;
    assert_ne!(first, second);

    std::fs::write(&certificate, "garbage").unwrap();
    tls.reload();
    assert_eq!(get(server.address()).await.1, second);
}

#[tokio::test]
async fn a_plain_request_on_a_tls_port_gets_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = write_pair(folder.path(), &SigningKey::from_bytes(&[1; 32]));
    let options =
        ListenerOptions { handshake: Some(Tls::load(&certificate, &key).unwrap()), ..ListenerOptions::default() };
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), options).await.unwrap();
    let server = listener.serve(Arc::new(Says)).unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
}

#[test]
fn files_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = write_pair(folder.path(), &SigningKey::from_bytes(&[1; 32]));
    std::fs::write(
        folder.path().join("other.pem"),
        SigningKey::from_bytes(&[3; 32]).to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes(),
    )
    .unwrap();
    assert!(matches!(Tls::load(&certificate, &folder.path().join("other.pem")), Err(TlsError::Pair(_))));
    let missing = Tls::load(&certificate, &certificate).err().unwrap().to_string();
    assert!(missing.contains("certificate.pem") && missing.contains("private key"), "{missing}");
    assert!(matches!(Tls::load(&key, &key), Err(TlsError::File { .. } | TlsError::Pair(_))));
}
