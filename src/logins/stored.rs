//! What both stores read of a login's key.

use super::Listed;
use crate::keys::KeyRole;
use crate::users::{NoUserName, UserName};

/// Reads a [`ListedRow`].
macro_rules! listed_row {
    ($row:expr) => {
        $crate::db::columns!(
            $row,
            $crate::logins::stored::ListedRow { name, tenant, role, is_service, user_name, expires_at_ms }
        )
    };
}
pub(super) use listed_row;

/// What a login's key says of it, as the databases give it.
pub(super) struct ListedRow {
    pub name: String,
    pub tenant: String,
    pub role: String,
    pub is_service: bool,
    pub user_name: Option<String>,
    pub expires_at_ms: Option<i64>,
}

impl ListedRow {
    pub fn listed(self) -> Result<Listed, NoUserName> {
        Ok(Listed {
            name: self.name,
            tenant: self.tenant,
            role: KeyRole::stored(self.role == "admin", self.is_service),
            user: self.user_name.as_deref().map(str::parse::<UserName>).transpose()?,
            key_expires_at_ms: self.expires_at_ms.map(|ms| ms as u64),
        })
    }
}
