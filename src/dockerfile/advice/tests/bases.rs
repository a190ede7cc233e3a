//! Base images.

use super::*;

#[test]
fn a_base_without_a_tag_or_with_latest_is_hinted_at() {
    let hint = one("# note\nFROM debian\n");
    assert_eq!((hint.kind, hint.line), (K::BaseImageLatest, Some(2)));
    assert!(
        hint.message.starts_with("Dockerfile:2: debian has no tag"),
        "{}",
        hint.message
    );
    let hint = one("FROM registry.example.com:5000/team/base:latest AS b\n");
    assert_eq!((hint.kind, hint.line), (K::BaseImageLatest, Some(1)));
    let hint = one("ARG TAG=latest\nFROM alpine:${TAG}\n");
    assert_eq!((hint.kind, hint.line), (K::BaseImageLatest, Some(2)));
    assert_eq!(
        kinds("FROM a@@\nCOPY --from=busybox /bin/sh /\nRUN --mount=from=tools,target=/t true\n"),
        [(K::BaseImageLatest, Some(2)), (K::BaseImageLatest, Some(3))]
    );
}

#[test]
fn bases_by_tag_alone_share_one_hint() {
    let hint = one(
        "FROM golang:1.26 AS build\nRUN true\nFROM alpine:3.22\nCOPY --from=build /a /a\n\
         COPY --from=ghcr.io/x/y:1 /b /b\nCOPY --from=alpine:3.22 /c /c\n",
    );
    assert_eq!((hint.kind, hint.line), (K::BaseImageNotPinned, None));
    assert_eq!(
        hint.message,
        "Dockerfile: golang:1.26 (line 1), alpine:3.22 (line 3) and ghcr.io/x/y:1 (line 5) are named \
         by tags alone, which can be overwritten; add their digests (name:tag@sha256:…) for the same base \
         image on every build"
    );
    let both = kinds("FROM golang:1.26 AS build\nFROM alpine\nCOPY --from=build /a /a\n");
    assert_eq!(
        both,
        [(K::BaseImageLatest, Some(2)), (K::BaseImageNotPinned, None)]
    );
}

#[test]
fn what_is_no_image_of_a_registry_or_is_not_known_needs_no_digest() {
    silent(&[
        "FROM scratch",
        "FROM a@@ AS base\nFROM base\nCOPY --from=BASE /x /x\nCOPY --from=0 /y /y",
        "FROM a:1@@",
        "ARG BASE\nFROM $BASE",
        "ARG BASE\nFROM ${BASE:?no base}",
        "FROM ${UNKNOWN}/base",
        "ARG D=@@\nFROM alpine:3.22$D",
        "FROM --platform=$BUILDPLATFORM a@@",
        "FROM base-$TARGETARCH\nRUN true",
        "FROM unneeded:latest AS x\nFROM scratch",
    ]);
}

#[test]
fn build_arguments_go_before_the_defaults() {
    let text = "ARG V=latest\nARG IMAGE=alpine:$V\nFROM ${IMAGE}\n";
    assert_eq!(kinds(text), [(K::BaseImageLatest, Some(3))]);
    let pinned = format!("alpine{PIN}");
    let case = Case {
        build_args: &[("IMAGE", &pinned)],
        ..Case::default()
    };
    assert_eq!(case.kinds(text), []);
    assert_eq!(
        kinds("ARG V\nFROM alpine:${V:-3.22}\n"),
        [(K::BaseImageNotPinned, None)]
    );
    assert_eq!(kinds("ARG V=x\nFROM a@@ AS x\nFROM $V\n"), []);
}
