//! Starts the stage inside the boundary, which restricts itself and becomes the command.
