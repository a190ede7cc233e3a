package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

type hub struct {
	Version     string            `json:"version"`
	AppVersion  string            `json:"appVersion"`
	KubeVersion string            `json:"kubeVersion"`
	Annotations map[string]string `json:"annotations"`
}

func readYAML(t *testing.T, text []byte, into any) {
	t.Helper()
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
}

func TestWhatArtifactHubShowsIsSo(t *testing.T) {
	text, err := os.ReadFile(chart + "/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var read hub
	readYAML(t, text, &read)
	about := func(name string, into any) {
		t.Helper()
		if read.Annotations["artifacthub.io/"+name] == "" {
			t.Fatalf("artifacthub.io/%s is missing", name)
		}
		readYAML(t, []byte(read.Annotations["artifacthub.io/"+name]), into)
	}
	var values struct {
		Image   struct{ Repository string }
		Builder struct{ Image string }
	}
	defaults, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	readYAML(t, defaults, &values)
	var images []struct{ Image string }
	about("images", &images)
	for at, wanted := range []string{values.Image.Repository + ":" + read.AppVersion, values.Builder.Image} {
		if len(images) != 2 || images[at].Image != wanted {
			t.Errorf("artifacthub.io/images: %v, without %s", images, wanted)
		}
	}
	if prerelease := read.Annotations["artifacthub.io/prerelease"]; prerelease != map[bool]string{true: "true", false: "false"}[strings.HasPrefix(read.Version, "0.") || strings.Contains(read.Version, "-")] {
		t.Errorf("artifacthub.io/prerelease is %s at version %s", prerelease, read.Version)
	}
	if !strings.HasPrefix(read.KubeVersion, ">=1.") || read.Annotations["artifacthub.io/license"] != "Apache-2.0" {
		t.Error(read.KubeVersion, read.Annotations["artifacthub.io/license"])
	}
	var changes []struct{ Kind, Description string }
	about("changes", &changes)
	for _, change := range changes {
		if !strings.Contains("added changed deprecated removed fixed security", change.Kind) || change.Description == "" {
			t.Errorf("artifacthub.io/changes: %v", change)
		}
	}
	var links []struct{ Name, URL string }
	if about("links", &links); len(links) < 3 {
		t.Error(links)
	}
	definitions(t, about)
}

// definitions holds the list of kinds, and their examples, to the chart's own definitions.
func definitions(t *testing.T, about func(string, any)) {
	t.Helper()
	var told []struct{ Kind, Version, Name, Description string }
	about("crds", &told)
	files, err := filepath.Glob(chart + "/files/crds/*.yaml")
	if err != nil || len(files) != len(told) {
		t.Fatal(files, told, err)
	}
	properties := map[string]any{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var tree map[string]any
		readYAML(t, text, &tree)
		kind, _ := at(tree, "spec/names/kind")
		name, _ := at(tree, "metadata/name")
		version, _ := at(tree, "spec/versions/0/name")
		spec, _ := at(tree, "spec/versions/0/schema/openAPIV3Schema/properties/spec")
		properties[kind.(string)] = spec
		found := false
		for _, one := range told {
			found = found || one.Kind == kind && one.Name == name && one.Version == version && one.Description != ""
		}
		if !found {
			t.Errorf("artifacthub.io/crds has no %v %v %v", kind, name, version)
		}
	}
	var examples []struct {
		APIVersion string
		Kind       string
		Spec       map[string]any
	}
	about("crdsExamples", &examples)
	if len(examples) < 2 {
		t.Error(examples)
	}
	for _, example := range examples {
		fits(t, example.Kind, example.Spec, properties[example.Kind])
	}
}

// fits holds the fields of an example to those of its kind.
func fits(t *testing.T, path string, example, schema any) {
	t.Helper()
	tree, is := example.(map[string]any)
	if !is {
		return
	}
	for key, value := range tree {
		inner, known := at(schema, "properties/"+key)
		if !known {
			t.Errorf("artifacthub.io/crdsExamples: %s has no field %s", path, key)
			continue
		}
		fits(t, path+"."+key, value, inner)
	}
}
