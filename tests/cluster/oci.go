package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Media types of the OCI image format.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// epoch is the time of every file in the images, so that the same content gives the same digest.
var epoch = time.Unix(1_700_000_000, 0)

type descriptor struct {
	MediaType string         `json:"mediaType"`
	Digest    string         `json:"digest"`
	Size      int64          `json:"size"`
	Platform  *imagePlatform `json:"platform,omitempty"`
}

type imagePlatform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type imageConfig struct {
	User       string              `json:"User,omitempty"`
	Env        []string            `json:"Env,omitempty"`
	Entrypoint []string            `json:"Entrypoint,omitempty"`
	Cmd        []string            `json:"Cmd,omitempty"`
	WorkingDir string              `json:"WorkingDir,omitempty"`
	Volumes    map[string]struct{} `json:"Volumes,omitempty"`
	Labels     map[string]string   `json:"Labels,omitempty"`
}

// imageWriter writes one image, as blobs named by digest, into a folder.
type imageWriter struct {
	dir    string
	layers []descriptor
	diffs  []string
}

func blobPath(dir, digest string) string {
	return filepath.Join(dir, "blobs", strings.ReplaceAll(digest, ":", "-"))
}

func (w *imageWriter) blob(mediaType string, data []byte) (descriptor, error) {
	sum := sha256.Sum256(data)
	d := descriptor{MediaType: mediaType, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(data))}
	return d, os.WriteFile(blobPath(w.dir, d.Digest), data, 0o644)
}

// layer adds the files that fill writes.
func (w *imageWriter) layer(fill func(*layerTar) error) error {
	tmp, err := os.CreateTemp(filepath.Join(w.dir, "blobs"), "layer.*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	packed, plain := sha256.New(), sha256.New()
	// The quickest level: these images never leave the machine.
	zip, err := gzip.NewWriterLevel(io.MultiWriter(tmp, packed), gzip.BestSpeed)
	if err != nil {
		return err
	}
	files := &layerTar{tar: tar.NewWriter(io.MultiWriter(zip, plain)), seen: map[string]bool{}}
	if err := fill(files); err != nil {
		return err
	}
	if err := errors.Join(files.tar.Close(), zip.Close()); err != nil {
		return err
	}
	size, err := tmp.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if err := errors.Join(tmp.Chmod(0o644), tmp.Close()); err != nil {
		return err
	}
	d := descriptor{MediaType: typeLayer, Digest: "sha256:" + hex.EncodeToString(packed.Sum(nil)), Size: size}
	w.layers = append(w.layers, d)
	w.diffs = append(w.diffs, "sha256:"+hex.EncodeToString(plain.Sum(nil)))
	return os.Rename(tmp.Name(), blobPath(w.dir, d.Digest))
}

// finish writes the configuration, a manifest for each architecture and the index over them.
func (w *imageWriter) finish(config imageConfig, architectures ...string) error {
	var manifests []descriptor
	// As every public image has it: without it, BuildKit's history of an image that is built on this one
	// tells the wrong instruction for each layer.
	var history []map[string]string
	for i := range w.layers {
		history = append(history, map[string]string{
			"created": epoch.UTC().Format(time.RFC3339), "created_by": fmt.Sprintf("base image, layer %d", i+1),
		})
	}
	for _, arch := range architectures {
		doc, err := json.Marshal(map[string]any{
			"architecture": arch, "os": "linux", "created": epoch.UTC().Format(time.RFC3339),
			"config": config, "rootfs": map[string]any{"type": "layers", "diff_ids": w.diffs}, "history": history,
		})
		if err != nil {
			return err
		}
		configBlob, err := w.blob(typeConfig, doc)
		if err != nil {
			return err
		}
		doc, err = json.Marshal(map[string]any{
			"schemaVersion": 2, "mediaType": typeManifest, "config": configBlob, "layers": w.layers,
		})
		if err != nil {
			return err
		}
		manifest, err := w.blob(typeManifest, doc)
		if err != nil {
			return err
		}
		manifest.Platform = &imagePlatform{Architecture: arch, OS: "linux"}
		manifests = append(manifests, manifest)
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": manifests})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, "index.json"), index, 0o644)
}

// layerTar writes a layer's files with fixed owners' names and times, and parents before children.
type layerTar struct {
	tar  *tar.Writer
	seen map[string]bool
}

func (l *layerTar) header(h *tar.Header) error {
	h.Uname, h.Gname = "", ""
	h.ModTime, h.AccessTime, h.ChangeTime = epoch, time.Time{}, time.Time{}
	h.Format = tar.FormatPAX
	l.seen[strings.Trim(h.Name, "/")] = true
	return l.tar.WriteHeader(h)
}

func (l *layerTar) parents(name string) error {
	parent := path.Dir(strings.Trim(name, "/"))
	if parent == "." || l.seen[parent] {
		return nil
	}
	if err := l.parents(parent); err != nil {
		return err
	}
	return l.header(&tar.Header{Typeflag: tar.TypeDir, Name: parent + "/", Mode: 0o755})
}

func (l *layerTar) dir(name string, mode int64, owner int) error {
	if err := l.parents(name); err != nil {
		return err
	}
	return l.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode, Uid: owner, Gid: owner})
}

func (l *layerTar) file(name string, mode int64, data []byte) error {
	if err := l.parents(name); err != nil {
		return err
	}
	if err := l.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := l.tar.Write(data)
	return err
}

// texts adds text files, in the order of their names.
func (l *layerTar) texts(files map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := l.file(name, 0o644, []byte(files[name])); err != nil {
			return err
		}
	}
	return nil
}

func (l *layerTar) symlink(name, target string) error {
	if err := l.parents(name); err != nil {
		return err
	}
	return l.header(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

// copyFile adds a file of the host.
func (l *layerTar) copyFile(name, from string, mode int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := l.parents(name); err != nil {
		return err
	}
	if err := l.header(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(l.tar, in)
	return err
}

// copyTree adds a folder of the host, without what skip names (paths relative to it).
func (l *layerTar) copyTree(name, from string, skip func(rel string, dir bool) bool) error {
	return filepath.WalkDir(from, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if rel != "." && skip(rel, d.IsDir()) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		target := path.Join(name, rel)
		switch {
		case d.IsDir():
			return l.dir(target, 0o755, 0)
		case d.Type()&os.ModeSymlink != 0:
			link, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return l.symlink(target, link)
		case d.Type().IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			return l.copyFile(target, p, int64(info.Mode().Perm()))
		}
		return nil
	})
}

// copyTar adds the files of a tar stream; edit may change a header, or drop the file.
func (l *layerTar) copyTar(in io.Reader, edit func(*tar.Header) (keep bool)) error {
	r := tar.NewReader(in)
	for {
		h, err := r.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, in)
			return err
		}
		if err != nil {
			return err
		}
		h.Name = strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		}
		if h.Name == "" || l.seen[h.Name] && h.Typeflag == tar.TypeDir || !edit(h) {
			continue
		}
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		if err := l.header(h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := io.Copy(l.tar, r); err != nil {
			return err
		}
	}
}

// fileCapability is the extended attribute that gives a program one capability, permitted and
// effective, as `setcap cap_x+ep` would write it (struct vfs_cap_data, revision 2).
func fileCapability(bit uint) map[string]string {
	data := make([]byte, 20)
	data[0], data[3] = 1, 2
	data[4+bit/8] = 1 << (bit % 8)
	return map[string]string{"SCHILY.xattr.security.capability": string(data)}
}

// pushImage copies an image folder into the registry under each tag.
func pushImage(ctx context.Context, dir, registry, repo string, tags []string) error {
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		return err
	}
	var parsed struct{ Manifests []descriptor }
	if err := json.Unmarshal(index, &parsed); err != nil {
		return err
	}
	base := "http://" + registry + "/v2/" + repo
	for _, m := range parsed.Manifests {
		data, err := os.ReadFile(blobPath(dir, m.Digest))
		if err != nil {
			return err
		}
		var manifest struct {
			Config descriptor
			Layers []descriptor
		}
		if err := json.Unmarshal(data, &manifest); err != nil {
			return err
		}
		for _, blob := range append(manifest.Layers, manifest.Config) {
			if err := pushBlob(ctx, base, blobPath(dir, blob.Digest), blob); err != nil {
				return err
			}
		}
		if err := pushManifest(ctx, base, m.Digest, typeManifest, data); err != nil {
			return err
		}
	}
	for _, tag := range tags {
		if err := pushManifest(ctx, base, tag, typeIndex, index); err != nil {
			return err
		}
	}
	return nil
}

func pushBlob(ctx context.Context, base, file string, blob descriptor) error {
	if code, _, err := request(ctx, http.MethodHead, base+"/blobs/"+blob.Digest, "", nil, 0); err != nil || code == http.StatusOK {
		return err
	}
	code, header, err := request(ctx, http.MethodPost, base+"/blobs/uploads/", "", nil, 0)
	if err != nil {
		return err
	}
	if code != http.StatusAccepted {
		return fmt.Errorf("registry answered %d to a new upload", code)
	}
	from, err := url.Parse(base + "/blobs/uploads/")
	if err != nil {
		return err
	}
	target, err := from.Parse(header.Get("Location"))
	if err != nil {
		return err
	}
	query := target.Query()
	query.Set("digest", blob.Digest)
	target.RawQuery = query.Encode()
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	code, _, err = request(ctx, http.MethodPut, target.String(), "application/octet-stream", in, blob.Size)
	if err == nil && code != http.StatusCreated {
		err = fmt.Errorf("registry answered %d to the upload of %s", code, blob.Digest)
	}
	return err
}

func pushManifest(ctx context.Context, base, reference, mediaType string, data []byte) error {
	code, _, err := request(ctx, http.MethodPut, base+"/manifests/"+reference, mediaType, bytes.NewReader(data), int64(len(data)))
	if err == nil && code != http.StatusCreated {
		err = fmt.Errorf("registry answered %d to the manifest %s", code, reference)
	}
	return err
}

func request(ctx context.Context, method, target, contentType string, body io.Reader, size int64) (int, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return 0, nil, err
	}
	req.ContentLength = size
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Accept", typeIndex+", "+typeManifest+", */*") // or the registry says that it has no index
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header, err
}
