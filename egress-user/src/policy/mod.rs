//! Turns a Pipelock YAML into the policy that the built-in mediator enforces. Pure.
