//! The size of a Builder's volume: it may grow.
//!
//! What a StatefulSet has made of its template cannot be changed there, so the template stays as it was made, and the claim
//! grows (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims>).

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::names;
use crate::refusal::Refusal;
use whittle_api::Builder;
use whittle_api::quantity::bytes;

/// The name that the claim of a replica of the Builder of this name has, by the StatefulSet's rules.
pub fn claim(builder: &str, replica: i32) -> String {
    format!("cache-{}", names::builder_pod(builder, replica))
}

fn storage(set: &mut StatefulSet) -> Option<&mut Quantity> {
    let claims = set.spec.as_mut()?.volume_claim_templates.as_mut()?;
    let resources = claims.first_mut()?.spec.as_mut()?.resources.as_mut()?;
    resources.requests.as_mut()?.get_mut("storage")
}

/// Keeps the size that the template of `stands` has, where `wanted` is larger; that larger one is returned.
pub fn keep(wanted: &mut StatefulSet, stands: &StatefulSet) -> Option<String> {
    let made = storage(&mut stands.clone())?.clone();
    let asks = storage(wanted)?;
    if bytes(&asks.0)? <= bytes(&made.0)? {
        return None;
    }
    Some(std::mem::replace(asks, made).0)
}

/// The size that a Builder's claim is to grow to, given its StatefulSet.
pub fn larger(builder: &Builder, set: &StatefulSet) -> Option<String> {
    let made = bytes(&storage(&mut set.clone())?.0)?;
    let size = &builder.spec.cache.size;
    (bytes(size)? > made).then(|| size.clone())
}

/// What is said where a volume does not grow to this size.
pub fn stays(size: &str, refusal: &Refusal) -> String {
    let fix = match refusal.words.contains("must support resize") {
        true => {
            "its StorageClass does not allow that: set allowVolumeExpansion there if the driver can, or delete the Builder (and with \
             it its cache) and create it again"
        }
        false => "see what the API server says",
    };
    format!(
        "its volume does not grow to {size}: {fix}: {}",
        refusal.words
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::objects::objects;
    use crate::fixtures;

    fn of_size(size: &str) -> (Builder, StatefulSet) {
        let mut builder = fixtures::builder();
        builder.spec.cache.size = size.into();
        let set = objects(&builder, &fixtures::settings(), "c").stateful_set;
        (builder, set)
    }

    #[test]
    fn a_larger_volume_is_asked_of_the_claim_and_not_of_the_set() {
        let (_, stands) = of_size("5Gi");
        let (builder, mut wanted) = of_size("10Gi");
        assert_eq!(keep(&mut wanted, &stands), Some("10Gi".into()));
        assert_eq!(
            wanted.spec,
            stands.spec.map(|mut spec| {
                spec.template = wanted.spec.clone().unwrap().template;
                spec
            })
        );
        assert_eq!(larger(&builder, &wanted), Some("10Gi".into()));
    }

    #[test]
    fn the_same_size_and_a_smaller_one_ask_for_nothing() {
        let (_, stands) = of_size("5Gi");
        for size in ["5Gi", "5120Mi", "4Gi"] {
            let (builder, mut wanted) = of_size(size);
            assert_eq!(keep(&mut wanted, &stands), None, "{size}");
            assert_eq!(larger(&builder, &stands), None, "{size}");
        }
    }

    #[test]
    fn a_class_that_does_not_allow_it_is_named_as_the_cause() {
        let words = "persistentvolumeclaims \"c\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass \
            that provisions the pvc must support resize";
        let refusal = Refusal::of("a claim", None, 403, words).unwrap();
        let said = stays("10Gi", &refusal);
        assert!(
            said.contains("allowVolumeExpansion") && said.contains("10Gi"),
            "{said}"
        );
    }
}
