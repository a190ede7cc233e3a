//! Arguments.

use super::*;

#[test]
fn an_arg_of_elsewhere_is_hinted_at_where_a_run_uses_it() {
    let hint = one(
        "ARG VERSION=1\nFROM a@@ AS build\nRUN true && \\\n    go build -ldflags \"-X main.v=${VERSION}\"\n",
    );
    assert_eq!((hint.kind, hint.line), (K::ArgNotDeclared, Some(4)));
    assert_eq!(
        hint.message,
        "Dockerfile:4: $VERSION is empty here: the ARG of line 1 is before the first FROM and holds \
         for FROM lines only; add `ARG VERSION` to stage build above this RUN"
    );
    let hint =
        one("FROM a@@ AS x\nARG REV\nRUN echo $REV\nFROM b@@\nCOPY --from=x /x /\nRUN echo $REV\n");
    assert_eq!((hint.kind, hint.line), (K::ArgNotDeclared, Some(6)));
    assert!(
        hint.message
            .contains("the ARG of line 2 holds for its own stage"),
        "{}",
        hint.message
    );
    let hint = one("FROM a@@\nRUN GOOS=$TARGETOS true\nARG TARGETARCH\nARG TARGETOS\n");
    assert!(
        hint.message.contains("follows on line 4 only"),
        "{}",
        hint.message
    );
    let hint = one("FROM a@@\nRUN GOARCH=$TARGETARCH true\n");
    assert!(
        hint.message.contains("only after `ARG TARGETARCH`"),
        "{}",
        hint.message
    );
    let hint = one("ARG V=1\nFROM a@@\nRUN <<EOF\nset -e\necho $V\nEOF\n");
    assert_eq!((hint.kind, hint.line), (K::ArgNotDeclared, Some(5)));
    let hint = one("ARG V=1\nFROM a@@\nRUN V=$V make\n");
    assert_eq!((hint.kind, hint.line), (K::ArgNotDeclared, Some(3)));
}

#[test]
fn a_variable_that_has_a_value_here_is_no_missing_arg() {
    let head = "ARG VERSION=1\nARG PLAIN\nFROM a@@ AS base\n";
    for tail in [
        "ARG VERSION\nRUN echo $VERSION",
        "ARG A=1 VERSION=2\nRUN echo $VERSION",
        "ENV VERSION=$VERSION\nRUN echo $VERSION",
        "ENV VERSION 3\nRUN echo $VERSION",
        "RUN VERSION=$(cat v) && echo $VERSION",
        "RUN export VERSION=2; echo \"${VERSION}\"",
        "RUN for VERSION in 1 2; do echo $VERSION; done",
        "RUN echo a | { read -r VERSION; echo $VERSION; }",
        "RUN echo '$VERSION' \\$VERSION \"\\${VERSION}\"",
        "RUN echo ${VERSION:-dev} ${VERSION:+x}",
        "RUN sh -c 'VERSION=1; echo $VERSION'",
        "RUN cat <<'EOF' > /x\n$VERSION\nEOF",
        "RUN [\"echo\", \"$VERSION\"]",
        "RUN . ./env.sh && echo $VERSION",
        "RUN --mount=type=secret,id=v,env=VERSION echo $VERSION",
        "RUN echo $VERSIONS $OTHER",
        "# RUN echo $VERSION\nRUN true \\\n # $VERSION\n && true",
        "ARG VERSION\nFROM base\nRUN echo $VERSION",
        "ENV VERSION=1\nFROM base\nFROM base\nRUN echo $VERSION",
        "SHELL [\"pwsh\", \"-Command\"]\nRUN echo $VERSION",
        "RUN <<EOF\n#!/usr/bin/env python3\nprint(\"$VERSION\")\nEOF",
        "COPY <<EOF /x\nrun $VERSION\nRUN echo $VERSION\nEOF",
        "RUN cat <<'EOF' > /etc/x\nRUN echo $VERSION\nFROM debian\nEOF",
        "ONBUILD RUN echo $VERSION",
        "CMD echo $VERSION",
    ] {
        silent(&[&format!("{head}{tail}\n")]);
    }
    silent(&[
        "FROM a@@\nRUN echo $HTTP_PROXY $https_proxy $HOME $PATH $PWD",
        "# escape=`\nARG V=1\nFROM mcr.microsoft.com/windows/nanoserver@@\nRUN echo $V",
        // The base image brings these.
        "ARG NODE_VERSION=22\nARG D=@@\nFROM node:${NODE_VERSION}$D\nRUN echo $NODE_VERSION",
        "ARG APP_VERSION=22\nFROM registry.example.com/app/base@@\nRUN echo $APP_VERSION",
        "ARG UID=1\nFROM a@@\nRUN useradd -u $UID x",
    ]);
}

#[test]
fn a_build_argument_that_no_arg_takes_is_hinted_at() {
    let case = Case {
        build_args: &[
            ("VERSION", "1"),
            ("http_proxy", "x"),
            ("SOURCE_DATE_EPOCH", "0"),
        ],
        ..Case::default()
    };
    let hints = case.of("FROM a@@\nARG VERSOIN\nRUN echo $VERSOIN\n");
    assert_eq!(hints.len(), 1, "{hints:#?}");
    assert_eq!(
        (hints[0].kind, hints[0].line),
        (K::BuildArgNotDeclared, None)
    );
    assert_eq!(
        hints[0].message,
        "Dockerfile: no ARG declares VERSION, so spec.buildArgs.VERSION changes nothing; did you mean \
         VERSOIN?"
    );
    for text in [
        "ARG VERSION\nFROM a@@",
        "FROM a@@\nARG X VERSION=2",
        "FROM a@@ AS other\nARG VERSION\nFROM b@@",
        "FROM a:onbuild@@",
    ] {
        assert_eq!(case.kinds(text), [], "{text}");
    }
    // Where a RUN uses it, its own hint says all.
    assert_eq!(
        case.kinds("FROM a@@\nRUN echo $VERSION"),
        [(K::ArgNotDeclared, Some(2))]
    );
}
