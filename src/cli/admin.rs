//! How `tap`, `top` and `health` find the relay that they look at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use zeroize::Zeroizing;

use crate::admin::client::{AskError, Client, Place};
use crate::config::{AdminListen, AdminToken, OutputTls, limits};
use crate::metrics::OutputExpiries;
use crate::tls;

use super::run::EXIT_RUNTIME;
use super::{Configuration, EXIT_CONFIG, say};

/// Which relay.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The relay's admin server: http://HOST:PORT, https://HOST:PORT or unix:///PATH. Without it the one that the configuration names
    /// (admin.listen), and without a configuration http://127.0.0.1:9514.
    #[arg(long, value_name = "URL")]
    admin: Option<Place>,
    /// The relay's configuration, which says where its admin server listens. Not read where --admin is given.
    #[arg(short, long, value_name = "FILE", env = "FOREBAY_CONFIG")]
    config: Option<PathBuf>,
    /// A file with the token that the relay asks for over TCP. Without it the configuration's (admin.token_file).
    #[arg(long, value_name = "FILE", env = "FOREBAY_ADMIN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// With https://: PEM file of the authorities to trust. Default: Mozilla's roots.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With https://: PEM file of a certificate that the relay's admin.tls.client_ca has signed.
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// PEM file of that certificate's key.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

impl Which {
    /// Finds the relay. Nothing is asked yet; what is wrong has been said where there is an exit code.
    pub(super) fn client(&self) -> Result<Client, ExitCode> {
        let (place, token) = match (&self.admin, &self.config) {
            (Some(place), _) => (place.clone(), None),
            (None, Some(_)) => self.configured()?,
            // A sidecar, and this a second process in its container.
            (None, None) if std::env::var_os("FOREBAY_INTAKE_KEY").is_some() => self.configured()?,
            (None, None) => (Place::Tcp(limits::ADMIN.to_owned()), None),
        };
        let token = match &self.token_file {
            Some(file) => Some(read_token(file)?),
            None => token,
        };
        let tls = match &place {
            Place::Tls(_) => Some(self.tls()?),
            Place::Tcp(_) | Place::Unix(_) => None,
        };
        let client = Client::new(place).map_err(|error| {
            say(&format!("cannot ask anybody: {error}\n"));
            ExitCode::from(EXIT_RUNTIME)
        })?;
        Ok(client.with_token(token).with_tls(tls))
    }

    fn tls(&self) -> Result<tls::Client, ExitCode> {
        tls::install_provider();
        let client = self.client_cert.clone().zip(self.client_key.clone());
        let tls = OutputTls { ca: self.ca.clone(), server_name: None, client };
        tls::Client::new("admin", &tls, &OutputExpiries::default()).map_err(|error| {
            say(&format!("{error}\n"));
            ExitCode::from(EXIT_CONFIG)
        })
    }

    fn configured(&self) -> Result<(Place, Option<AdminToken>), ExitCode> {
        // Who may read its keys is the relay's affair.
        let insecure_permissions = true;
        let configuration =
            Configuration { config: self.config.clone(), insecure_permissions, ..Configuration::default() };
        let loaded = configuration.load().inspect_err(|_| {
            say("where the relay's admin server listens is all that is needed: give --admin URL, and no configuration is read\n");
        })?;
        // Over a unix socket there is no question of addresses.
        let is_unix = |listen: &&AdminListen| matches!(listen, AdminListen::Unix(_));
        let listen = &loaded.config.admin;
        let access = &loaded.config.admin_access;
        match listen.iter().find(is_unix).or_else(|| listen.first()) {
            Some(AdminListen::Unix(path)) => Ok((Place::Unix(path.clone()), None)),
            Some(AdminListen::Tcp(address)) if address.port() == 0 => {
                say(
                    "the configuration lets the kernel choose the admin server's port: the relay's log says which, give it with --admin URL\n",
                );
                Err(ExitCode::from(EXIT_CONFIG))
            }
            Some(AdminListen::Tcp(address)) => {
                let address = reachable(*address).to_string();
                let place = if access.tls.is_some() { Place::Tls(address) } else { Place::Tcp(address) };
                Ok((place, access.token.clone()))
            }
            None => {
                say("the configuration turns the admin server off (admin.listen: off): there is nobody to ask; \
                     give it an address, or a unix socket, and restart the relay\n");
                Err(ExitCode::from(EXIT_CONFIG))
            }
        }
    }
}

fn read_token(file: &Path) -> Result<AdminToken, ExitCode> {
    let content = std::fs::read_to_string(file).map(Zeroizing::new);
    let token = content.map_err(|error| format!("cannot be read: {error}")).and_then(|content| {
        let wrong = |found| format!("holds {found}, expected {}", AdminToken::EXPECTED);
        AdminToken::new(content.trim()).map_err(wrong)
    });
    token.map_err(|why| {
        say(&format!("{} {why}\n", file.display()));
        ExitCode::from(EXIT_CONFIG)
    })
}

/// Who listens on every address listens on loopback, where messages are shown.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// What went wrong, and what to do next.
pub(super) fn advice(error: &AskError) -> String {
    match error {
        AskError::Connect { source, .. } => match source.kind() {
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => format!(
                "{error}: does a relay run here, and listen there (admin.listen)? Its log says \"admin server listening\"; \
                 name another place with --admin URL, or its configuration with -c FILE"
            ),
            std::io::ErrorKind::PermissionDenied => {
                format!("{error}: the socket is for its owner and group: ask as the relay's user (sudo -u …)")
            }
            _ => error.to_string(),
        },
        AskError::Refused { status: 401, words } => format!(
            "{words}: give the token with --token-file FILE, or the configuration that names it with -c FILE; or ask over the unix \
             socket, where there is one"
        ),
        AskError::Refused { status: 404, .. } => {
            format!("the relay knows no such question: is it of an older version? ({error})")
        }
        AskError::Answer { .. } => format!("{error}: is that a relay's admin server?"),
        AskError::Refused { .. } => error.to_string(),
    }
}
