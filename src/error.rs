//! The error type of commands. [`to_failure`](crate::explain::to_failure) converts it
//! to a [`Failure`].

use std::io;

use crate::api::ApiError;
use crate::exit::Failure;
use crate::session::SessionError;
use crate::store::{ProfilesError, StoreError};
use crate::terminal::PromptError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Profiles(#[from] ProfilesError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// A failure that a command has created itself, ready to be printed.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// Reading stdin or writing stdout failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Any other failure, with its context.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Session(error.into())
    }
}
