//! Looks on while a script runs: which statement it is at, and which way it goes where it branches.
//!
//! Only an engine that is watched pays for it; one that decides has no debugger.

use rhai::{
    ASTNode, Engine, EvalContext,
    debugger::{DebuggerCommand, DebuggerEvent},
};

use super::sites::Sites;

/// Has an engine call `see` at every node it comes by.
#[expect(
    deprecated,
    reason = "`register_debugger` is marked volatile, not deprecated; the version is pinned by the lock file"
)]
pub(crate) fn watch(
    engine: &mut Engine,
    see: impl Fn(&EvalContext, ASTNode) + Send + Sync + 'static,
) {
    engine.register_debugger(
        |_, debugger| debugger,
        move |context, event, node, _, _| {
            if matches!(event, DebuggerEvent::Step) {
                see(&context, node);
            }
            Ok(DebuggerCommand::StepInto)
        },
    );
}

/// What a script that runs has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A statement begins.
    Statement {
        /// Index of its site.
        site: usize,
    },
    /// A statement that branches went one of its ways.
    Arm {
        /// Index of its site.
        site: usize,
        /// Index of the arm.
        arm: usize,
        /// How many statements had begun before it.
        nth: usize,
    },
}

/// Tells nodes from statements and arms; a statement that branches is open until it is seen where it went.
#[derive(Debug, Default)]
pub(crate) struct Branches {
    begun: usize,
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    site: usize,
    nth: usize,
    level: usize,
}

impl Branches {
    /// Takes note of a node that the engine comes by at a level of function calls.
    pub(crate) fn pass(
        &mut self,
        sites: &Sites,
        node: ASTNode,
        level: usize,
        mut tell: impl FnMut(Seen),
    ) {
        if let Some((site, arm)) = sites.arm_at(node) {
            let open = self.open.iter();
            if let Some(at) = open
                .rev()
                .position(|o| o.site == site && o.level == level)
                .map(|back| self.open.len() - 1 - back)
            {
                let nth = self.open[at].nth;
                self.fall_through(sites, at + 1, &mut tell);
                self.open.truncate(at);
                tell(Seen::Arm { site, arm, nth });
            }
        }
        let Some((site, found)) = sites.at(node) else {
            return;
        };
        // Whatever is still open at this level or deeper has had its condition and entered nothing.
        let kept = self.open.partition_point(|open| open.level < level);
        self.fall_through(sites, kept, &mut tell);
        tell(Seen::Statement { site });
        if !found.arms.is_empty() {
            let nth = self.begun;
            self.open.push(Open { site, nth, level });
        }
        self.begun += 1;
    }

    /// The script has come to its end; one that failed may have failed in a condition, which then went nowhere.
    pub(crate) fn end(&mut self, sites: &Sites, failed: bool, mut tell: impl FnMut(Seen)) {
        if failed {
            self.open.clear();
        }
        self.fall_through(sites, 0, &mut tell);
    }

    fn fall_through(&mut self, sites: &Sites, from: usize, tell: &mut impl FnMut(Seen)) {
        for Open { site, nth, .. } in self.open.drain(from..) {
            if let Some(arm) = sites.all()[site].fallthrough {
                tell(Seen::Arm { site, arm, nth });
            }
        }
    }
}
