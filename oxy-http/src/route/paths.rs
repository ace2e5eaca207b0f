//! Which of a virtual host's routes takes a path.
//!
//! The order is that of [`super::RouteTable`]: the exact path, which is looked up; segment by segment down a tree, a
//! literal before a name before whatever follows; the regular expressions as they are listed; what takes every path.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use http::Method;
use regex::bytes::Regex;

use super::captures::Spans;
use super::conditions::Conditions;
use super::pattern::{Pattern, Segment};
use super::table::Route;
use super::view::View;

/// Routes of one pattern, as they are listed.
type Bucket = Vec<Entry>;

/// A route, with what is asked first, so that the memory of a route without conditions is not touched.
#[derive(Debug)]
struct Entry {
    route: Arc<Route>,
    takes: Takes,
    is_unconditional: bool,
}

/// What a route takes of the paths that lead to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    All,
    /// Those that have a slash.
    Rooted,
    /// Those that go on behind a slash; what follows is captured.
    Rest,
}

impl Entry {
    fn new(route: Arc<Route>) -> Self {
        let takes = match &route.test.pattern {
            Pattern::Prefix(prefix) if prefix.is_empty() => Takes::Rooted,
            Pattern::Template { rest: true, .. } => Takes::Rest,
            _ => Takes::All,
        };
        Self {
            takes,
            is_unconditional: route.test.conditions.is_empty(),
            route,
        }
    }
}

/// The routes of one priority of a virtual host.
#[derive(Debug)]
pub(super) struct Paths {
    exact: HashMap<Box<[u8]>, Bucket, FixedState>,
    tree: Vec<Node>,
    regexes: Vec<(Regex, Bucket)>,
    /// What takes every path.
    last: Bucket,
}

/// Where a template or a prefix goes on.
#[derive(Debug, Default)]
struct Node {
    literals: Literals,
    name: Option<usize>,
    /// Templates that end here.
    end: Bucket,
    /// Prefixes that end here, and templates that take the rest.
    rest: Bucket,
}

/// Where it goes on by the text of a segment. Most nodes have one way to go on, and that one needs no table.
#[derive(Debug, Default)]
enum Literals {
    #[default]
    None,
    One(Box<[u8]>, usize),
    Many(HashMap<Box<[u8]>, usize, FixedState>),
}

impl Literals {
    fn find(&self, segment: &[u8]) -> Option<usize> {
        match self {
            Self::None => None,
            Self::One(text, next) => (**text == *segment).then_some(*next),
            Self::Many(map) => map.get(segment).copied(),
        }
    }

    fn insert(&mut self, segment: &[u8], next: usize) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(segment.into(), next),
            Self::One(text, other) => Self::Many(
                [(text, other), (segment.into(), next)]
                    .into_iter()
                    .collect(),
            ),
            Self::Many(mut map) => {
                map.insert(segment.into(), next);
                Self::Many(map)
            }
        };
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            exact: HashMap::default(),
            tree: vec![Node::default()],
            regexes: Vec::new(),
            last: Bucket::new(),
        }
    }
}

impl Paths {
    /// Adds a route; fails with the name of one that leaves nothing for it.
    pub(super) fn insert(&mut self, route: Arc<Route>) -> Result<(), String> {
        let bucket = self.bucket(&route.test.pattern);
        for Entry { route: earlier, .. } in bucket.iter() {
            let conditions = &earlier.test.conditions;
            if earlier.test.pattern.covers(&route.test.pattern)
                && (conditions.is_empty() || conditions.key() == route.test.conditions.key())
            {
                return Err(earlier.name.to_string());
            }
        }
        bucket.push(Entry::new(route));
        Ok(())
    }

    fn bucket(&mut self, pattern: &Pattern) -> &mut Bucket {
        match pattern {
            Pattern::Any => &mut self.last,
            Pattern::Path(path) => self.exact.entry(path.clone()).or_default(),
            Pattern::Prefix(prefix) if prefix.is_empty() => &mut self.last,
            Pattern::Prefix(prefix) => {
                let segments = prefix[1..].split(|&byte| byte == b'/');
                let at = segments.fold(0, |at, segment| self.literal(at, segment));
                &mut self.tree[at].rest
            }
            Pattern::Template { segments, rest } => {
                if segments.is_empty() {
                    return &mut self.last;
                }
                let at = segments.iter().fold(0, |at, segment| match segment {
                    Segment::Literal(text) => self.literal(at, text),
                    Segment::Name => self.name(at),
                });
                let node = &mut self.tree[at];
                if *rest { &mut node.rest } else { &mut node.end }
            }
            Pattern::Regex(regex) => {
                let known = self
                    .regexes
                    .iter()
                    .position(|(known, _)| known.as_str() == regex.as_str());
                let at = known.unwrap_or_else(|| {
                    self.regexes.push((regex.clone(), Bucket::new()));
                    self.regexes.len() - 1
                });
                &mut self.regexes[at].1
            }
        }
    }

    fn literal(&mut self, at: usize, text: &[u8]) -> usize {
        if let Some(next) = self.tree[at].literals.find(text) {
            return next;
        }
        let next = self.tree.len();
        self.tree.push(Node::default());
        self.tree[at].literals.insert(text, next);
        next
    }

    fn name(&mut self, at: usize) -> usize {
        if let Some(next) = self.tree[at].name {
            return next;
        }
        let next = self.tree.len();
        self.tree.push(Node::default());
        self.tree[at].name = Some(next);
        next
    }

    /// The first route, in the order of precedence, that `search` takes.
    pub(super) fn find<'t>(&'t self, search: &mut Search<'_>) -> Option<&'t Arc<Route>> {
        if let Some(bucket) = self.exact.get(search.path)
            && let Some(route) = search.among(bucket, search.path.len())
        {
            return Some(route);
        }
        if search.path.first() == Some(&b'/')
            && self.tree.len() > 1
            && let Some(route) = self.descend(0, 0, search)
        {
            return Some(route);
        }
        for (regex, bucket) in &self.regexes {
            if let Some(spans) = matched(regex, search.path) {
                search.spans = spans;
                if let Some(route) = search.among(bucket, search.path.len()) {
                    return Some(route);
                }
                search.spans = Spans::default();
            }
        }
        search.among(&self.last, 0)
    }

    /// What is left of the path at `from` is empty, or begins with a slash. As deep as the longest pattern, and no
    /// deeper.
    fn descend<'t>(
        &'t self,
        node: usize,
        from: usize,
        search: &mut Search<'_>,
    ) -> Option<&'t Arc<Route>> {
        let node = &self.tree[node];
        let left = &search.path[from..];
        if left.is_empty() {
            if let Some(route) = search.among(&node.end, from) {
                return Some(route);
            }
        } else if !matches!(node.literals, Literals::None) || node.name.is_some() {
            let end = memchr::memchr(b'/', &left[1..]).map_or(left.len(), |at| at + 1);
            if let Some(next) = node.literals.find(&left[1..end])
                && let Some(route) = self.descend(next, from + end, search)
            {
                return Some(route);
            }
            if let Some(next) = node.name
                && end > 1
            {
                search.spans.push(from + 1, from + end);
                if let Some(route) = self.descend(next, from + end, search) {
                    return Some(route);
                }
                search.spans.pop();
            }
        }
        search.among(&node.rest, from)
    }
}

/// What the groups captured, if the whole path matches.
fn matched(regex: &Regex, path: &[u8]) -> Option<Spans> {
    let mut spans = Spans::default();
    // Finding groups costs an allocation and several times the work.
    if regex.captures_len() == 1 {
        return regex.is_match(path).then_some(spans);
    }
    let captures = regex.captures(path)?;
    for group in captures.iter().skip(1) {
        let (start, end) = group.map_or((0, 0), |group| (group.start(), group.end()));
        spans.push(start, end);
    }
    Some(spans)
}

/// A request on its way through the patterns.
pub(super) struct Search<'v> {
    view: &'v dyn View,
    path: &'v [u8],
    /// What was captured on the way here.
    pub(super) spans: Spans,
    /// Whether there was a route that was not taken for its method.
    pub(super) method_missed: bool,
    /// Where the methods go of those that would be taken but for theirs; then none is taken.
    allowed: Option<Vec<Method>>,
}

impl<'v> Search<'v> {
    pub(super) fn new(view: &'v dyn View, path: &'v [u8]) -> Self {
        Self {
            view,
            path,
            spans: Spans::default(),
            method_missed: false,
            allowed: None,
        }
    }

    /// A search that takes nothing and notes which methods would be taken.
    pub(super) fn for_methods(view: &'v dyn View, path: &'v [u8]) -> Self {
        Self {
            allowed: Some(Vec::new()),
            ..Self::new(view, path)
        }
    }

    pub(super) fn into_allowed(self) -> Vec<Method> {
        self.allowed.unwrap_or_default()
    }

    /// The first of `bucket` whose conditions hold; what is left of the path begins at `from`.
    fn among<'t>(&mut self, bucket: &'t Bucket, from: usize) -> Option<&'t Arc<Route>> {
        for entry in bucket {
            let fits = match entry.takes {
                Takes::All => true,
                Takes::Rooted => self.path.first() == Some(&b'/'),
                Takes::Rest => self.path.first() == Some(&b'/') && self.path.len() > from + 1,
            };
            if !fits || !(entry.is_unconditional || self.holds(&entry.route.test.conditions)) {
                continue;
            }
            if entry.takes == Takes::Rest {
                self.spans.push(from + 1, self.path.len());
            }
            return Some(&entry.route);
        }
        None
    }
    fn holds(&mut self, conditions: &Conditions) -> bool {
        let is_taken = conditions.method_holds(self.view);
        if let Some(allowed) = &mut self.allowed {
            if !is_taken && conditions.rest_holds(self.view) {
                allowed.extend_from_slice(&conditions.methods);
            }
            return false;
        }
        self.method_missed |= !is_taken;
        is_taken && conditions.rest_holds(self.view)
    }
}
