package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The provisioner of the StorageClasses `local` and `memory`: a folder on the node for each claim, as a
// PersistentVolume of type `local`. (A hostPath volume would ignore the Pod's fsGroup.) A folder of the
// class `memory` is a file system of its own, as large as the claim asks: it can be full.

const (
	storageClass    = "local"
	memoryClass     = "memory"
	provisionerName = "whittle.dev/local"
	provisionedBy   = "pv.kubernetes.io/provisioned-by"
)

type claim struct {
	Metadata struct {
		Name, Namespace, UID string
		Annotations          map[string]string
		DeletionTimestamp    *string
	}
	Spec struct {
		StorageClassName string
		VolumeName       string
		VolumeMode       string
		AccessModes      []string
		Resources        struct {
			Requests map[string]string
		}
	}
	Status struct{ Phase string }
}

type volume struct {
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Spec struct {
		PersistentVolumeReclaimPolicy string
		Local                         *struct{ Path string }
	}
	Status struct{ Phase string }
}

// provision serves claims until the cluster stops.
func (s *supervisor) provision() {
	select {
	case <-s.ready["kube-apiserver"]:
	case <-s.ctx.Done():
		return
	}
	k, err := newKube("https://"+nodeIP+":"+apiPort, "provisioner")
	if err != nil {
		fmt.Fprintln(os.Stderr, "provisioner:", err)
		return
	}
	// Its role is only there once `up` has applied it.
	pollUntil(s.ctx, 10*time.Minute, func() error {
		_, err := k.get(s.ctx, "/api/v1/persistentvolumes?limit=1")
		return err
	})
	complain := func(what string, err error) {
		if err != nil && s.ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "%s provisioner: %s: %v\n", time.Now().Format(time.RFC3339), what, err)
		}
	}
	go follow(s.ctx, k, "/api/v1/persistentvolumes", func(v volume) { complain(v.Metadata.Name, reclaim(s.ctx, k, v)) })
	follow(s.ctx, k, "/api/v1/persistentvolumeclaims", func(c claim) {
		complain(c.Metadata.Namespace+"/"+c.Metadata.Name, serveClaim(s.ctx, k, c))
	})
}

// wantsVolume tells whether a claim is ours and its Pod has been placed.
func wantsVolume(c claim) bool {
	ours := c.Spec.StorageClassName == storageClass || c.Spec.StorageClassName == memoryClass
	return ours && c.Spec.VolumeName == "" && c.Metadata.DeletionTimestamp == nil &&
		c.Metadata.Annotations["volume.kubernetes.io/selected-node"] == nodeName && c.Spec.VolumeMode != "Block"
}

func serveClaim(ctx context.Context, k *kube, c claim) error {
	if !wantsVolume(c) {
		return nil
	}
	name := "pvc-" + c.Metadata.UID
	dir := state("volumes", name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if c.Spec.StorageClassName == memoryClass && !isMounted(dir) {
		size, ok := strings.CutSuffix(c.Spec.Resources.Requests["storage"], "Mi")
		if !ok {
			return fmt.Errorf("a claim of the class %s must ask for a number of Mi, not %s", memoryClass, c.Spec.Resources.Requests["storage"])
		}
		// Within the node's mount namespace: it ends with the node.
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0777,size="+size+"m"); err != nil {
			return fmt.Errorf("mounting %s: %w", dir, err)
		}
	}
	if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask
		return err
	}
	_, err := k.do(ctx, http.MethodPost, "/api/v1/persistentvolumes", volumeFor(c, name, dir))
	if err != nil && strings.Contains(err.Error(), "AlreadyExists") {
		return nil
	}
	return err
}

func volumeFor(c claim, name, dir string) map[string]any {
	type m = map[string]any
	return m{
		"apiVersion": "v1", "kind": "PersistentVolume",
		"metadata": m{"name": name, "annotations": m{provisionedBy: provisionerName}},
		"spec": m{
			"capacity":                      m{"storage": c.Spec.Resources.Requests["storage"]},
			"accessModes":                   c.Spec.AccessModes,
			"persistentVolumeReclaimPolicy": "Delete",
			"storageClassName":              c.Spec.StorageClassName,
			"volumeMode":                    "Filesystem",
			"local":                         m{"path": dir},
			"claimRef":                      m{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": c.Metadata.Namespace, "name": c.Metadata.Name, "uid": c.Metadata.UID},
			"nodeAffinity": m{"required": m{"nodeSelectorTerms": []m{{"matchExpressions": []m{
				{"key": "kubernetes.io/hostname", "operator": "In", "values": []string{nodeName}},
			}}}}},
		},
	}
}

// reclaim deletes a released volume and its folder.
func reclaim(ctx context.Context, k *kube, v volume) error {
	if v.Metadata.Annotations[provisionedBy] != provisionerName || v.Status.Phase != "Released" || v.Spec.PersistentVolumeReclaimPolicy != "Delete" {
		return nil
	}
	// Only ever our own folder, whatever the object says.
	if v.Spec.Local == nil || filepath.Dir(v.Spec.Local.Path) != state("volumes") {
		return nil
	}
	if isMounted(v.Spec.Local.Path) {
		if err := syscall.Unmount(v.Spec.Local.Path, 0); err != nil {
			return fmt.Errorf("unmounting %s: %w", v.Spec.Local.Path, err)
		}
	}
	if err := os.RemoveAll(v.Spec.Local.Path); err != nil {
		return err
	}
	_, err := k.do(ctx, http.MethodDelete, "/api/v1/persistentvolumes/"+v.Metadata.Name, nil)
	if errors.Is(err, errNotFound) {
		return nil
	}
	return err
}

// isMounted tells whether a file system begins at dir.
func isMounted(dir string) bool {
	var own, parent syscall.Stat_t
	if syscall.Stat(dir, &own) != nil || syscall.Stat(filepath.Dir(dir), &parent) != nil {
		return false
	}
	return own.Dev != parent.Dev
}
