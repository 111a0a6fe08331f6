//! Policies: scripts that only decide, the facts they see and the decisions they may answer.
