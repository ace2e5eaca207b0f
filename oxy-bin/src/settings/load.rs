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
