//! References to objects of the same namespace, and patterns shared by several types.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{DATA_KEY, OBJECT_NAME};

/// Characters of a Builder's name: the StatefulSet's revision label is made of `whittle-builder-`, the name and
/// eleven more, and has 63 at most.
pub const BUILDER_NAME_LENGTH: usize = 36;

/// True for the names of Secrets that Whittle itself makes: with a key of a runner or a builder in its hands, a build
/// step could speak for others. The rules of [`LocalRef`] and [`SecretKeyRef`] say the same.
pub fn is_managed_secret(name: &str) -> bool {
    name == "whittle-ca"
        || name.starts_with("whittle-builder-")
        || name.starts_with("whittle-attempt-")
}

const SECRET_NAME: &str = "secretRef.name: invalid name: use lowercase letters, digits, - and ., starting and ending \
    with a letter or digit";
const SECRET_NOT_OURS: &str = "!self.matches('^whittle-(builder-.*|attempt-.*|ca)$')";
const SECRET_RESERVED: &str = "secretRef: whittle-ca and names that start with whittle-builder- or whittle-attempt- are \
    reserved for Whittle's own keys and not allowed in builds: name a Secret of your own";

/// A Builder of the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuilderRef {
    /// Name of the Builder.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("size(self) <= 36 && self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("builderRef.name: invalid name: use at most 36 lowercase letters, digits and -: names of the \
        Builder's objects are derived from it"))]
    pub name: String,
}

/// The name of a Secret in the same namespace. References never cross namespaces.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the Secret, in the namespace of the one that refers to it.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(OBJECT_NAME).message(SECRET_NAME))]
    #[x_kube(validation = Rule::new(SECRET_NOT_OURS).message(SECRET_RESERVED))]
    pub name: String,
}

/// One key of a Secret in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(OBJECT_NAME).message(SECRET_NAME))]
    #[x_kube(validation = Rule::new(SECRET_NOT_OURS).message(SECRET_RESERVED))]
    pub name: String,
    /// Key within the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new(DATA_KEY).message("secretRef.key: invalid key: use letters, digits, -, _ and . only"))]
    pub key: String,
}
