//! Reading a settings file.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use serde_saphyr::{DuplicateKeyPolicy, Options, PropertySyntax};

use super::environment::Marked;
use super::{Plan, Settings, SettingsError};

/// Settings are written by hand: more than this is another file.
const SIZE_MAX: u64 = 16 << 20;

/// Reads the file at `path`, or the standard input for `-`, with the process's environment.
pub fn load(path: &Path) -> Result<Plan, SettingsError> {
    let name = if path == Path::new("-") {
        "standard input".into()
    } else {
        path.display().to_string()
    };
    let failed = |e: std::io::Error| SettingsError::whole(&name, e);
    let mut text = String::new();
    let mut file: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    file.by_ref()
        .take(SIZE_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    parse(&name, &text, environment)
}

/// Reads `text`, of the file `name`. In it `${VAR}` and `${VAR:-DEFAULT}` stand for what `environment` has; `$$` for a
/// dollar sign.
///
/// The environment is looked at when the YAML has been parsed, so that a variable is always one value, whatever is in it.
pub fn parse(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Plan, SettingsError> {
    let mut options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
    };
    options.property_syntax = PropertySyntax::DockerCompose;
    let options = options.with_properties(environment.into_iter().collect::<HashMap<_, _>>());
    read(text, options).map_err(|error| error.quoting(name, text))
}

fn read(text: &str, options: Options) -> Result<Plan, SettingsError> {
    let marked = Marked::of(text);
    let original = |error: SettingsError| SettingsError {
        column: marked.column(error.line, error.column),
        message: Marked::message(&error.message),
        ..error
    };
    let settings: Settings = serde_saphyr::from_str_with_options(&marked.text, options)
        .map_err(|error| original(SettingsError::of(&error, &marked.text)))?;
    Plan::of(settings).map_err(original)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use oxy_core::offramp::EgressPolicy;

    use super::super::{DEFAULTS, Kind, LogFormat};
    use super::*;

    fn read(text: &str) -> Result<Plan, SettingsError> {
        parse(
            "test",
            text,
            [("A".into(), "7".into()), ("E".into(), String::new())],
        )
    }

    #[test]
    fn the_defaults_are_a_tour() {
        let plan = read(DEFAULTS).unwrap();
        assert_eq!(plan.access_log.format, LogFormat::Text);
        assert!(plan.needs_builtin());
        let names: Vec<_> = plan.listeners.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["reverse", "https", "forward"]);
    }

    #[test]
    fn what_is_not_said_is_as_the_crates_have_it() {
        let plan = read(
            "
drain_timeout: 1m30s
listeners:
  - {listen: [':0'], http: {to: ['a:1'], options: {head: {max_head: 16KiB}}}}
  - {listen: [':0'], http: {forward: true}}
  - {listen: [':0'], http: {forward: true}, egress: {allow_loopback: true}}
  - {listen: [':0'], tcp: {to: ['a:1']}, relay: {idle: 2h}}
  - {listen: [':0'], udp: {to: ['a:1']}}
",
        )
        .unwrap();
        assert_eq!(plan.drain_timeout, Duration::from_secs(90));
        let names: Vec<_> = plan.listeners.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["reverse", "forward", "forward-3", "tcp", "udp"]);
        let [reverse, forward, inward, tcp, udp] = &plan.listeners[..] else {
            panic!("{plan:?}");
        };
        let Kind::Http(http) = &reverse.kind else {
            panic!("{reverse:?}");
        };
        let options = &http.options;
        let default = oxy_http::HttpOptions::default();
        assert_eq!(options.head.max_head, 16 * 1024);
        assert_eq!(options.head.max_fields, default.head.max_fields);
        assert_eq!(options.timeouts, default.timeouts);
        assert_eq!(reverse.egress, EgressPolicy::open());
        assert_eq!(forward.egress, EgressPolicy::default());
        assert!(inward.egress.allow_loopback && !inward.egress.allow_private);
        assert_eq!(tcp.relay.idle, Duration::from_secs(7200));
        assert!(udp.listen[0].to_string().starts_with("udp:"), "{udp:?}");
    }

    #[test]
    fn variables_become_whatever_the_setting_is() {
        let listeners = "listeners: [{listen: [':0'], tcp: {to: ['a:1']}}]\n";
        for workers in ["${A}", "'${A}'", "\"${A}\"", "${B:-7}", "${E:-7}"] {
            let plan = read(&format!("workers: {workers}\n{listeners}")).unwrap();
            assert_eq!(plan.workers, Some(7), "{workers}");
        }
        for (workers, message) in [
            ("${B}", "the environment has no variable B"),
            ("'${B}'", "the environment has no variable B"),
            ("${B:?how many}", "B: how many"),
            ("${1}", "names no environment variable"),
        ] {
            let error = read(&format!("workers: {workers}\n{listeners}")).unwrap_err();
            assert!(error.message.contains(message), "{workers}: {error}");
            assert_eq!((error.line, error.column), (1, 10), "{workers}: {error}");
        }
    }
}
