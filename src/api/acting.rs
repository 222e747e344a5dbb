//! Who acts as whom: a request of a key that serves many people names the one whom it is for, and sees what is his and nothing
//! else; the key of one user is his without a word.

use axum::http::{HeaderMap, HeaderValue, StatusCode};

use super::error::ApiError;
use super::headers::USER;
use crate::keys::Principal;
use crate::message::InvalidRequest;
use crate::users::{NoUserName, UserName, Users};

/// The user whom a request's header names.
pub(super) fn named(headers: &HeaderMap) -> Result<Option<UserName>, InvalidRequest> {
    let name = |value: &HeaderValue| value.to_str().unwrap_or_default().parse();
    let fault = |error: NoUserName| InvalidRequest::of(USER.as_str(), error.to_string());
    headers.get(USER).map(|value| name(value).map_err(fault)).transpose()
}

/// The principal, as the user who is named.
pub(super) async fn acting(
    users: &Users,
    principal: Principal,
    named: Option<UserName>,
) -> Result<Principal, ApiError> {
    let Some(name) = named else { return Ok(principal) };
    if principal.role.acts_for_users() {
        let user = Some(users.identify(&principal.tenant, &name).await?);
        return Ok(Principal { user, ..principal });
    }
    // His own name is no other's; and a name that is nobody's is not made by asking.
    if principal.user.is_some() && users.find(&principal.tenant, &name).await? == principal.user {
        return Ok(principal);
    }
    let message = "this key may not act for that user: it takes one with the service role, or the user's own";
    Err(ApiError::new(StatusCode::FORBIDDEN, "wrong_user", message))
}

/// The new principal in place of the old one on a socket, whose user stays whom it was for.
pub(super) fn renewed(old: &Principal, new: Principal) -> Result<Principal, ApiError> {
    let refused = |code, message| Err(ApiError::new(StatusCode::FORBIDDEN, code, message));
    if new.tenant != old.tenant {
        return refused("wrong_tenant", "the key is another tenant's: open another socket with it");
    }
    let user = if new.role.acts_for_users() { old.user } else { new.user };
    if user != old.user {
        return refused("wrong_user", "the key is not for this socket's user: open another socket with it");
    }
    Ok(Principal { user, ..new })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::keys::KeyRole;

    #[test]
    fn a_sockets_user_stays_with_every_key() {
        let (ann, bob) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        let of = |role, user| Principal { role, user, ..Principal::keyless("t") };
        for (old, new, becomes) in [
            (of(KeyRole::Service, ann), of(KeyRole::Service, None), Some(ann)),
            (of(KeyRole::Service, ann), of(KeyRole::Admin, None), Some(ann)),
            (of(KeyRole::Service, ann), of(KeyRole::User, ann), Some(ann)),
            (of(KeyRole::User, ann), of(KeyRole::User, bob), None),
            (of(KeyRole::User, ann), of(KeyRole::User, None), None),
            (of(KeyRole::User, None), of(KeyRole::User, ann), None),
            (of(KeyRole::User, None), of(KeyRole::User, None), Some(None)),
            (of(KeyRole::User, None), of(KeyRole::Service, None), Some(None)),
        ] {
            let renewed = renewed(&old, new.clone()).ok().map(|principal| principal.user);
            assert_eq!(renewed, becomes, "{:?} {:?} to {:?} {:?}", old.role, old.user, new.role, new.user);
        }
        let other = renewed(&of(KeyRole::Admin, None), Principal::keyless("other")).unwrap_err();
        assert_eq!(other.code(), "wrong_tenant");
    }
}
