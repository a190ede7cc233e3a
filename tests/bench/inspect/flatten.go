package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
)

// `crane export` goes through an image from its last layer to its first by names alone: of two entries of one name it takes the first,
// and it follows no links. So images are flattened here, as the OCI image specification says, and as containerd does where that is
// silent: https://github.com/opencontainers/image-spec/blob/main/layer.md

// inode is what one or several names of an image stand for.
type inode struct {
	kind     byte
	mode     int64
	uid, gid int
	link     string // of a symbolic link
	device   [2]int64
	digest   string // of a file's bytes
	size     int64
}

func (i *inode) String() string {
	return fmt.Sprintf("type %c, mode %o, owner %d:%d, target %q, device %v, %d bytes %s", i.kind, i.mode, i.uid, i.gid, i.link, i.device, i.size, i.digest)
}

// node is one name in its folder.
type node struct {
	*inode
	layer    int
	parent   *node
	children map[string]*node
}

func newFolder(parent *node, layer int) *node {
	return &node{inode: &inode{kind: tar.TypeDir, mode: 0o755}, layer: layer, parent: parent, children: map[string]*node{}}
}

// follow gives the folder at a path from a folder. Links are followed, never out of the root; what is missing is made, if asked for.
func follow(root, at *node, name string, layer int, create bool, links *int) (*node, error) {
	if strings.HasPrefix(name, "/") {
		at = root
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if at.parent != nil {
				at = at.parent
			}
			continue
		}
		next := at.children[part]
		switch {
		case next == nil && create:
			next = newFolder(at, layer)
			at.children[part] = next
		case next == nil:
			return nil, errors.New("not found")
		case next.kind == tar.TypeSymlink:
			// As many as containerd follows.
			if *links++; *links > 255 {
				return nil, errors.New("too many links")
			}
			found, err := follow(root, at, next.link, layer, create, links)
			if err != nil {
				return nil, err
			}
			next = found
		}
		if next.kind != tar.TypeDir {
			return nil, errors.New("not a folder")
		}
		at = next
	}
	return at, nil
}

// hide removes what lower layers have there and below, and tells whether all of it is gone.
func (n *node) hide(layer int) bool {
	for name, child := range n.children {
		if child.hide(layer) {
			delete(n.children, name)
		}
	}
	return n.layer < layer && len(n.children) == 0
}

// apply puts one entry of a layer onto the tree.
func (n *node) apply(header *tar.Header, content io.Reader, layer int) error {
	name := path.Clean("/" + header.Name)
	folder, base := path.Split(name)
	if base == "" {
		if header.Typeflag == tar.TypeDir {
			n.mode, n.uid, n.gid, n.layer = header.Mode, header.Uid, header.Gid, layer
		}
		return nil
	}
	gone, removes := strings.CutPrefix(base, ".wh.")
	links := 0
	parent, err := follow(n, n, folder, layer, !removes, &links)
	if removes {
		switch {
		case err != nil: // Nothing is there to be removed.
		case gone == ".wh..opq":
			for name, child := range parent.children {
				if child.hide(layer) {
					delete(parent.children, name)
				}
			}
		case strings.HasPrefix(gone, ".wh."): // What AUFS kept for itself.
		case parent.children[gone] != nil && parent.children[gone].hide(layer):
			delete(parent.children, gone)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("%q: %w", header.Name, err)
	}
	old := parent.children[base]
	if header.Typeflag == tar.TypeDir && old != nil && old.kind == tar.TypeDir {
		old.mode, old.uid, old.gid, old.layer = header.Mode, header.Uid, header.Gid, layer
		return nil
	}
	made := &node{layer: layer, parent: parent}
	if header.Typeflag == tar.TypeLink {
		folder, last := path.Split(header.Linkname)
		links := 0
		target, err := follow(n, n, folder, layer, false, &links)
		if err != nil || target.children[last] == nil || target.children[last].kind == tar.TypeDir {
			return fmt.Errorf("%q is a hard link to %q, which is no file", header.Name, header.Linkname)
		}
		// All names of a file share its attributes, and containerd sets those of the link.
		made.inode = target.children[last].inode
		made.uid, made.gid = header.Uid, header.Gid
		if made.kind != tar.TypeSymlink {
			made.mode = header.Mode
		}
		parent.children[base] = made
		return nil
	}
	made.inode = &inode{kind: header.Typeflag, mode: header.Mode, uid: header.Uid, gid: header.Gid}
	switch header.Typeflag {
	case tar.TypeReg:
		hash := sha256.New()
		if made.size, err = io.Copy(hash, content); err != nil {
			return err
		}
		made.digest = hex.EncodeToString(hash.Sum(nil))
	case tar.TypeDir:
		made.children = map[string]*node{}
	case tar.TypeSymlink:
		made.link = header.Linkname
	case tar.TypeChar, tar.TypeBlock:
		made.device = [2]int64{header.Devmajor, header.Devminor}
	}
	parent.children[base] = made
	return nil
}

// flatten reads an image from its registry, and gives its tree, as a runtime would unpack it.
func flatten(crane, image string) (*node, error) {
	data, err := exec.Command(crane, "manifest", "--insecure", image).Output()
	if err != nil {
		return nil, fmt.Errorf("crane manifest %s: %w", image, err)
	}
	var found manifest
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, err
	}
	repository := image[:strings.LastIndexByte(image, ':')]
	root := newFolder(nil, 0)
	for i, layer := range found.Layers {
		if err := root.layerOf(crane, repository+"@"+layer.Digest, i); err != nil {
			return nil, fmt.Errorf("layer %d of %s: %w", i+1, path.Base(image), err)
		}
	}
	return root, nil
}

func (n *node) layerOf(crane, blob string, number int) error {
	command := exec.Command(crane, "blob", "--insecure", blob)
	var said bytes.Buffer
	command.Stderr = &said
	stream, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	err = n.unpack(stream, number)
	stream.Close()
	if ended := command.Wait(); err == nil && ended != nil {
		return fmt.Errorf("crane blob: %w: %s", ended, said.String())
	}
	return err
}

func (n *node) unpack(stream io.Reader, number int) error {
	unzipped, err := gzip.NewReader(stream)
	if err != nil {
		return err
	}
	archive := tar.NewReader(unzipped)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, unzipped)
			return err
		}
		if err != nil {
			return err
		}
		if err := n.apply(header, archive, number); err != nil {
			return err
		}
	}
}

// differences compares a smaller image with the full one: what it has must be the same there, and what the full one's own layers
// brought must be in it. At most ten are told.
func differences(full, small *node) []string {
	var found []string
	tell := func(format string, args ...any) {
		if len(found) < 10 {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	// Of a file with several names: all of them are one file in both, or in neither.
	one, other := map[*inode]*inode{}, map[*inode]*inode{}
	var compare func(at string, full, small *node)
	compare = func(at string, full, small *node) {
		a, b := full.inode, small.inode
		if a.String() != b.String() {
			tell("%q is %s, and %s in the full image", at, b, a)
		} else if a.kind == tar.TypeReg && (one[a] != nil && one[a] != b || other[b] != nil && other[b] != a) {
			tell("%q is linked with other names than in the full image", at)
		}
		one[a], other[b] = b, a
		for name, child := range small.children {
			if there := full.children[name]; there != nil {
				compare(at+"/"+name, there, child)
			} else {
				tell("%q is not in the full image", at+"/"+name)
			}
		}
		for name, child := range full.children {
			if small.children[name] == nil && child.layer > 0 {
				tell("%q is lost: %s, of layer %d", at+"/"+name, child.inode, child.layer+1)
			}
		}
	}
	compare("", full, small)
	links := 0
	folder, name := path.Split(program)
	if parent, err := follow(small, small, folder, 0, false, &links); err != nil || parent.children[name] == nil {
		tell("the program is lost")
	}
	return found
}
