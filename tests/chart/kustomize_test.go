package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const (
	imageOfBase    = "ghcr.io/whittle-dev/whittle:"
	imageOfOverlay = "registry.example.com/platform/whittle:0.1.0"
	home           = "platform-builds"
	example        = "../../config/overlays/example"
)

// built is what kustomize makes of a folder, by kind and name.
func built(t *testing.T, folder string) map[string]Object {
	t.Helper()
	command := exec.Command(program(t, "kubectl"), "kustomize", folder)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := documents(out)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]Object{}
	for _, object := range objects {
		name, _ := at(object.Tree, "metadata/name")
		all[object.Tree["kind"].(string)+"/"+name.(string)] = object
	}
	return all
}

func plain(t *testing.T, tree any) string {
	t.Helper()
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAnOverlayKeepsEachGuardOfTheBase(t *testing.T) {
	base, overlay := built(t, "../../config/default"), built(t, example)
	image, _ := at(base["Deployment/whittle"].Tree, "spec/template/spec/containers/controller/image")
	moved := strings.NewReplacer(image.(string), imageOfOverlay)
	guards := 0
	for name, before := range base {
		kind, _, _ := strings.Cut(name, "/")
		if kind == "Namespace" {
			continue
		}
		after, is := overlay[name]
		if !is {
			t.Errorf("%s is missing", name)
			continue
		}
		if namespace, is := at(before.Tree, "metadata/namespace"); is && namespace != "" {
			if there, _ := at(after.Tree, "metadata/namespace"); there != home {
				t.Errorf("%s is in namespace %v", name, there)
			}
		}
		switch kind {
		case "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "NetworkPolicy", "DaemonSet", "Deployment":
			guards++
			if wanted, got := moved.Replace(plain(t, before.Tree["spec"])), plain(t, after.Tree["spec"]); got != wanted {
				t.Errorf("%s has another spec:\n%s\nand not\n%s", name, got, wanted)
			}
		}
	}
	if guards < 17 {
		t.Errorf("%d guards", guards)
	}
	if len(overlay) != len(base) {
		t.Errorf("%d objects, and %d in the base", len(overlay), len(base))
	}
	labels, _ := at(base["Namespace/whittle-system"].Tree, "metadata/labels")
	if moved, _ := at(overlay["Namespace/"+home].Tree, "metadata/labels"); moved == nil || !reflect.DeepEqual(moved, labels) {
		t.Errorf("labels of the namespace: %v and not %v", moved, labels)
	}
}

func TestAnOverlayLeavesNothingOfTheBasesNamespaceAndImage(t *testing.T) {
	for name, object := range built(t, example) {
		// The account that the policies hold is found by its role, too, so one name may stay.
		text := strings.ReplaceAll(string(object.Raw), "system:serviceaccount:whittle-system:whittle'", "")
		for _, left := range []string{"whittle-system", imageOfBase} {
			if strings.Contains(text, left) {
				t.Errorf("%s has %s", name, left)
			}
		}
		if subjects, is := at(object.Tree, "subjects"); is && !strings.Contains(plain(t, subjects), `"namespace":"`+home+`"`) {
			t.Errorf("%s: subjects %v", name, subjects)
		}
	}
}

func settingsOf(t *testing.T, objects map[string]Object) map[string]any {
	t.Helper()
	text, _ := at(objects["ConfigMap/whittle-settings"].Tree, "data/settings.json")
	var read map[string]any
	if err := json.Unmarshal([]byte(text.(string)), &read); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return read
}

func TestAnOverlaysSettingsHaveItsImageAndItsMirrorsAndAreElseThoseOfTheBase(t *testing.T) {
	wanted, got := settingsOf(t, built(t, "../../config/default")), settingsOf(t, built(t, example))
	wanted["runner"].(map[string]any)["image"] = imageOfOverlay
	var registries any
	given := `[{"host":"docker.io","mirrors":["mirror.example.com"]},{"host":"registry.example.internal:5000","plainHTTP":true}]`
	if err := json.Unmarshal([]byte(given), &registries); err != nil {
		t.Fatal(err)
	}
	wanted["builder"].(map[string]any)["defaults"].(map[string]any)["registries"] = registries
	if !reflect.DeepEqual(got, wanted) {
		t.Errorf("%s\nand not\n%s", plain(t, got), plain(t, wanted))
	}
}

func TestComponentsMayBeUsedInAnyOrderAndAlone(t *testing.T) {
	text, err := os.ReadFile(example + "/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const image, mirrors = "  - ../../components/image\n", "  - ../../components/mirrors\n"
	wanted := built(t, example)
	for name, components := range map[string]string{"turned": mirrors + image, "image": image, "mirrors": mirrors} {
		folder, err := os.MkdirTemp("../../config/overlays", "test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(folder) })
		changed := strings.Replace(string(text), image+mirrors, components, 1)
		if changed == string(text) {
			t.Fatal("the example has other components")
		}
		if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		got := built(t, folder)
		if name == "turned" && !reflect.DeepEqual(got, wanted) {
			t.Error("the order of components makes a difference")
		}
		settings := settingsOf(t, got)
		_, hasMirrors := at(settings, "builder/defaults/registries")
		hasImage := settings["runner"].(map[string]any)["image"] == imageOfOverlay
		if hasImage != slices.Contains([]string{"turned", "image"}, name) || hasMirrors != slices.Contains([]string{"turned", "mirrors"}, name) {
			t.Errorf("%s: image %v, mirrors %v", name, hasImage, hasMirrors)
		}
	}
}
