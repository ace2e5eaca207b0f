//! Where an application decides about flows.

use crate::Result;
use crate::flow::{Flow, FlowInfo};
use crate::summary::Summary;
use crate::verdict::Verdict;

/// The application's say over flows, at every layer. All methods have defaults that cost nothing.
///
/// One value serves all flows of a worker and is shared between workers; what belongs to a flow lives in
/// [`FlowHooks::Conn`].
pub trait FlowHooks: Send + Sync + 'static {
    /// What the application keeps with a flow. Children inherit by way of [`FlowHooks::conn`].
    type Conn: Send + Sync + 'static;

    /// Makes the state of a new flow; `parent` is that of the flow which it came out of.
    fn conn(&self, info: &FlowInfo, parent: Option<&Self::Conn>) -> Self::Conn;

    /// Called once for every flow and before anything else is done with it, also for those that come out of others. It
    /// may look at the carrier ([`crate::StreamIo::peek`], [`crate::sniff`]) and must bound the time that it takes to
    /// do so. An error refuses the flow. Dropped with the flow's task if the process aborts.
    fn on_flow(
        &self,
        conn: &mut Self::Conn,
        flow: &mut Flow,
    ) -> impl Future<Output = Result<Verdict>> + Send {
        let _ = (conn, flow);
        async { Ok(Verdict::Continue) }
    }

    /// Called exactly once for every flow that [`FlowHooks::on_flow`] was called for, whatever ended it; a child's comes
    /// before its parent's. It must not block.
    fn on_close(&self, conn: &Self::Conn, summary: &Summary) {
        let _ = (conn, summary);
    }
}

/// No application: everything as configured.
impl FlowHooks for () {
    type Conn = ();

    fn conn(&self, _: &FlowInfo, _: Option<&()>) {}
}
