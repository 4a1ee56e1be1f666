//! Where the shell's side of HTTP would be, in a build without it.

use super::{Shell, Tuning};
use crate::clock::Now;
use crate::core::io::ConnId;
use crate::net::conn::Conn;
use std::net::IpAddr;

/// No connection of HTTP.
pub struct Web;

impl Web {
    pub fn new(_: &Tuning, _: Now) -> Self {
        Self
    }

    pub fn configure(&mut self, _: &Tuning, _: Now) {}

    pub fn tick_begins(&mut self) {}

    pub fn tick_ends(&mut self) {}

    pub fn next_ms(&self) -> Option<u64> {
        None
    }
}

impl Shell {
    pub(super) fn web_start(&mut self, _: Now) {}

    pub(super) fn web_welcome(&mut self, _: ConnId, _: &mut Conn, _: IpAddr, _: Now) {}

    pub(super) fn web_held(&self, id: ConnId) -> (ConnId, usize) {
        (id, 0)
    }

    pub(super) fn web_wrote(&mut self, _: ConnId, _: usize, _: Now) {}

    pub(super) fn web_handed(&mut self, _: Now) {}

    pub(super) fn web_gone(&mut self, _: ConnId, _: Now) {}

    pub(super) fn web_deadlines(&mut self, _: Now) {}

    pub(super) fn web_deliver(&mut self, _: ConnId, _: Vec<u8>, _: Now) {}

    pub(super) fn web_close(&mut self, _: ConnId, _: Now) {}

    pub(super) fn web_pause(&mut self, _: ConnId, _: bool, _: Now) {}

    pub(super) fn web_end(&mut self, _: Now) {}
}
