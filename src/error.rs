//! Every error of the layers below, in one type. Commands return it, and
//! [`explain`](crate::explain::explain) turns it into an outcome.

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
    /// A command has composed what the person is told.
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
