package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// What the samples of config/samples take from elsewhere comes from config/samples/sources:
//
//	git/NAME                a repository, samples/NAME.git
//	modules/PATH@VERSION    a Go module of the module proxy
//	npm/NAME@VERSION        a package's archive, beside the modules
//	images/NAME             an image of these files, samples/sources/NAME
//
// What lies in a folder private/ is given only with these credentials. They are no secret: the samples'
// Secrets hold them, so that applying the samples is all there is to do.
const (
	samplesPassword = "a-password-for-the-samples-only"
	samplesToken    = "a-token-for-the-samples-only"
)

// typePlainLayer is not compressed, so that a digest does not depend on the release of Go.
const typePlainLayer = "application/vnd.oci.image.layer.v1.tar"

func serveSamples(ctx context.Context, sources string) error {
	work := state("work", "samples")
	defer os.RemoveAll(work)
	if err := freshDir(work); err != nil {
		return err
	}
	for kind, serve := range map[string]func(ctx context.Context, name, source, work string) error{
		"git": serveRepository, "modules": serveModule, "npm": servePackage, "images": serveImage,
	} {
		names, err := sourcesOf(filepath.Join(sources, kind))
		if err != nil {
			return err
		}
		for _, name := range names {
			scratch := filepath.Join(work, kind, name)
			err := os.MkdirAll(scratch, 0o755)
			if err == nil {
				err = serve(ctx, name, filepath.Join(sources, kind, name), scratch)
			}
			if err != nil {
				return fmt.Errorf("serving %s of the samples' sources: %w", path.Join(kind, name), err)
			}
		}
	}
	return nil
}

// sourcesOf lists the folders that have files of their own, without those within them.
func sourcesOf(root string) (names []string, err error) {
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		entries, err := os.ReadDir(p)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Type().IsRegular() {
				name, err := filepath.Rel(root, p)
				if err != nil {
					return err
				}
				names = append(names, filepath.ToSlash(name))
				return fs.SkipDir
			}
		}
		return nil
	})
	return names, err
}

// serveRepository makes a repository of one commit, the same on each machine: branch main, tag v1.0.0.
func serveRepository(ctx context.Context, name, source, work string) error {
	bare := state("git", "samples", name+".git")
	date := epoch.UTC().Format(time.RFC3339)
	if err := runQuietly(command(ctx, "git", "init", "--quiet", "--bare", "--initial-branch=main", bare)); err != nil {
		return err
	}
	for _, args := range []string{
		"init --quiet --initial-branch=main",
		"add --all --force .",
		"-c user.name=samples -c user.email=samples@example.com commit --quiet --message=Sample",
		"push --quiet --force " + bare + " HEAD:refs/heads/main HEAD:refs/tags/v1.0.0",
	} {
		cmd := command(ctx, "git", strings.Fields(args)...)
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "GIT_DIR="+filepath.Join(work, ".git"), "GIT_WORK_TREE="+source,
			"GIT_AUTHOR_DATE="+date, "GIT_COMMITTER_DATE="+date, "GIT_CONFIG_GLOBAL=/dev/null")
		if err := runQuietly(cmd); err != nil {
			return err
		}
	}
	return nil
}

// serveModule lays a module out as `go mod download` finds it with a proxy.
func serveModule(_ context.Context, name, source, _ string) error {
	module, version, ok := strings.Cut(name, "@")
	if !ok {
		return fmt.Errorf("%s names no version: the folder of a module is called PATH@VERSION", name)
	}
	mod, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return err
	}
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	err = eachFile(source, func(rel string, data []byte) error {
		file, err := w.Create(name + "/" + rel)
		if err != nil {
			return err
		}
		_, err = file.Write(data)
		return err
	})
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	dir := state("goproxy", module, "@v")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	info := fmt.Sprintf("{\"Version\":%q,\"Time\":%q}\n", version, epoch.UTC().Format(time.RFC3339))
	for file, data := range map[string][]byte{
		version + ".info": []byte(info), version + ".mod": mod, version + ".zip": archive.Bytes(), "list": []byte(version + "\n"),
	} {
		if err := writeFileAtomic(filepath.Join(dir, file), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// servePackage writes the archive that `npm pack` would make, where a lock file's `resolved` leads.
func servePackage(_ context.Context, name, source, _ string) error {
	folder, version, ok := strings.Cut(name, "@")
	if !ok {
		return fmt.Errorf("%s names no version: the folder of a package is called NAME@VERSION", name)
	}
	var archive bytes.Buffer
	packed := gzip.NewWriter(&archive)
	files := &layerTar{tar: tar.NewWriter(packed), seen: map[string]bool{"package": true}}
	err := eachFile(source, func(rel string, data []byte) error { return files.file("package/"+rel, 0o755, data) })
	if err := errors.Join(err, files.tar.Close(), packed.Close()); err != nil {
		return err
	}
	root := "npm"
	if rest, private := strings.CutPrefix(folder, "private/"); private {
		root, folder = "private/npm", rest
	}
	target := state("goproxy", root, folder, "-", path.Base(folder)+"-"+version+".tgz")
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return writeFileAtomic(target, archive.Bytes(), 0o644)
}

func serveImage(ctx context.Context, name, source, work string) error {
	if err := writeSampleImage(source, work); err != nil {
		return err
	}
	return pushImage(ctx, work, hostRegistry, "samples/sources/"+name, []string{"latest"})
}

// writeSampleImage writes an image of a folder's files. It holds no machine code: both platforms share it.
func writeSampleImage(source, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs"), 0o755); err != nil {
		return err
	}
	var layer bytes.Buffer
	files := &layerTar{tar: tar.NewWriter(&layer), seen: map[string]bool{}}
	err := eachFile(source, func(rel string, data []byte) error { return files.file(rel, 0o644, data) })
	if err := errors.Join(err, files.tar.Close()); err != nil {
		return err
	}
	w := &imageWriter{dir: dir}
	blob, err := w.blob(typePlainLayer, layer.Bytes())
	if err != nil {
		return err
	}
	w.layers, w.diffs = []descriptor{blob}, []string{blob.Digest}
	return w.finish(imageConfig{}, "amd64", "arm64")
}

// eachFile calls do with each file of a folder, in the order of their paths.
func eachFile(root string, do func(rel string, data []byte) error) error {
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		return do(filepath.ToSlash(rel), data)
	})
}
