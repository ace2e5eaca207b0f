//! What a path captured: positions, kept in place.

/// Most captures that a path can have. Templates with more than a few are hard to read, and every match carries room for
/// as many.
pub(super) const MAX: usize = 8;

/// What a path captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans {
    at: [(u32, u32); MAX],
    len: u8,
}

impl Spans {
    /// Adds `start` to before `end`; what is more than [`MAX`] is left out, and no pattern that was compiled has more.
    pub(super) fn push(&mut self, start: usize, end: usize) {
        if let Some(free) = self.at.get_mut(self.len as usize) {
            *free = (start as u32, end as u32);
            self.len += 1;
        }
    }

    /// Takes the last one back.
    pub(super) fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    /// What the capture number `index` is of `text`.
    pub(super) fn of(self, index: usize, text: &[u8]) -> Option<&[u8]> {
        let (start, end) = *self.at[..self.len as usize].get(index)?;
        text.get(start as usize..end as usize)
    }
}

/// The names of captures, in their order; a group of a regular expression may have none, and all of its groups go by
/// their numbers from 1 too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    names: Vec<Option<Box<str>>>,
    numbered: bool,
}

impl Names {
    pub(super) fn of_template(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|name| Some((*name).into())).collect(),
            numbered: false,
        }
    }

    pub(super) fn of_regex(regex: &regex::bytes::Regex) -> Self {
        Self {
            names: regex
                .capture_names()
                .skip(1)
                .map(|name| name.map(Into::into))
                .collect(),
            numbered: true,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(|name| &**name)
    }

    /// Which capture is called `name`.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        if self.numbered
            && let Ok(number) = name.parse::<usize>()
        {
            return (1..=self.names.len()).contains(&number).then(|| number - 1);
        }
        self.names
            .iter()
            .position(|known| known.as_deref() == Some(name))
    }
}
