//! Oxy: by its command line, and by a settings file where that cannot say it.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::{CommandLine, Site, words};
use crate::case::Case;
use crate::identity::Identity;
use crate::routes;
use crate::variant::{Format, Variant};

/// The command that runs it in the foreground.
pub(super) fn command(case: Case, site: &Site<'_>) -> io::Result<CommandLine> {
    let (routes, log) = match site.entrant.variant {
        Variant::Routes(count) => (count, Format::Off),
        Variant::AccessLog(format) => (1, format),
        _ => return Ok(filled_in(case, site)),
    };
    let file = site.dir.join("oxy.json");
    std::fs::write(&file, settings(site, routes, log).to_string())?;
    let program = site.programs.oxy.as_deref();
    let program = program.ok_or_else(|| io::Error::other("there is no oxy to give settings to"))?;
    let (program, file) = (program.display().to_string(), file.display().to_string());
    Ok(words(&[&program, "run", "-c", &file]))
}

/// The command line that does without a file.
fn filled_in(case: Case, site: &Site<'_>) -> CommandLine {
    let mode = if case.layer_4() { "tcp" } else { "reverse" };
    let tls = case.tls().is_some();
    let scheme = if tls { "https://" } else { "" };
    let listen = format!("{scheme}{}", site.listen);
    let (origin, workers) = (site.origin.to_string(), site.entrant.workers().to_string());
    let fill = |word: &String| {
        word.replace("{mode}", mode)
            .replace("{listen}", &listen)
            .replace("{origin}", &origin)
            .replace("{workers}", &workers)
    };
    let mut command: CommandLine = site.oxy_cmd.iter().map(fill).collect();
    if tls {
        let Identity {
            certificate, key, ..
        } = site.identity;
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        command.extend(words(&["--cert", &certificate, "--key", &key]));
    }
    command
}

/// A settings file, in JSON, which is YAML as well.
fn settings(site: &Site<'_>, routes: usize, log: Format) -> Value {
    let table = if routes == 1 {
        json!([{ "routes": [{ "to": "origin" }] }])
    } else {
        hosts(routes)
    };
    json!({
        "workers": 1,
        "access_log": { "format": log.name(), "path": access_log(site.dir) },
        "clusters": [{ "name": "origin", "endpoints": [site.origin] }],
        "listeners": [{
            "name": "front",
            "listen": [site.listen],
            "http": { "routes": table },
        }],
    })
}

/// A table of `count` routes, each of them for a prefix of a host.
fn hosts(count: usize) -> Value {
    let numbers: Vec<_> = (0..count).collect();
    let hosts = numbers.chunk_by(|&a, &b| routes::host(a) == routes::host(b));
    let host = |numbers: &[usize]| {
        let route = |&number: &usize| {
            let prefix = format!("{}/*", routes::prefix(number));
            json!({ "match": prefix, "to": "origin" })
        };
        let routes: Vec<_> = numbers.iter().map(route).collect();
        json!({ "hosts": [routes::host(numbers[0])], "routes": routes })
    };
    hosts.map(host).collect()
}

fn access_log(dir: &Path) -> String {
    dir.join("access.log").display().to_string()
}

#[cfg(test)]
mod tests {
    use super::hosts;

    #[test]
    fn every_route_is_in_the_table_once() {
        let table = hosts(250);
        let hosts = table.as_array().unwrap();
        assert_eq!(hosts.len(), 3);
        let routes = hosts.iter().flat_map(|host| {
            let routes = host["routes"].as_array().unwrap();
            routes
                .iter()
                .map(|route| (host["hosts"][0].as_str(), route["match"].as_str()))
        });
        let routes: std::collections::BTreeSet<_> = routes.collect();
        assert_eq!(routes.len(), 250);
    }
}
