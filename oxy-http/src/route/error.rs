//! What is wrong with a table of routes.

use std::fmt;

/// What is wrong with a table of routes, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    host: String,
    route: Option<String>,
    problem: String,
}

impl RouteError {
    pub(super) fn of_host(host: &str, problem: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            route: None,
            problem: problem.into(),
        }
    }

    pub(super) fn of_route(host: &str, route: &str, problem: impl Into<String>) -> Self {
        Self {
            route: Some(route.into()),
            ..Self::of_host(host, problem)
        }
    }

    /// The first host of the virtual host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The route's name, or its place in the list as `#1`; none if it is the virtual host itself.
    pub fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// What is wrong.
    pub fn problem(&self) -> &str {
        &self.problem
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}", self.host)?;
        if let Some(route) = &self.route {
            write!(f, ", route {route}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for RouteError {}
