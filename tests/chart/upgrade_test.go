package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// withDefaults is the chart with other values.yaml: what `helm upgrade --reuse-values` makes of it, which puts those of the
// installed chart in its place.
func withDefaults(t *testing.T, values []byte) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "whittle")
	if err := os.CopyFS(copied, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, "values.yaml"), values, 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

func texts(objects []Object) map[string]string {
	all := map[string]string{}
	for _, object := range objects {
		all[object.Name] = string(object.Raw)
	}
	return all
}

func same(t *testing.T, what string, got, wanted []Object) {
	t.Helper()
	here, there := texts(got), texts(wanted)
	for name, text := range there {
		if here[name] != text {
			t.Errorf("%s: %s is another one:\n%s\nand not\n%s", what, name, here[name], text)
		}
	}
	for name := range here {
		if _, is := there[name]; !is {
			t.Errorf("%s: %s is there", what, name)
		}
	}
}

// without is a tree without what is at a path, or false where that does not exist.
func without(tree map[string]any, path string) bool {
	key, rest, more := strings.Cut(path, ".")
	if !more {
		_, is := tree[key]
		delete(tree, key)
		return is
	}
	inner, is := tree[key].(map[string]any)
	return is && without(inner, rest)
}

func TestWithoutAnyOneValueTheChartIsAsWithIt(t *testing.T) {
	text, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	// Definitions are most of what is rendered, and of the time.
	set := map[string]any{"crds": map[string]any{"install": false}}
	wanted, err := rendered(t, chart, set)
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range all {
		t.Run(value.Path, func(t *testing.T) {
			t.Parallel()
			var tree map[string]any
			if err := yaml.Unmarshal(text, &tree); err != nil {
				t.Fatal(err)
			}
			if !without(tree, value.Path) {
				t.Fatal("it was not there")
			}
			less, err := yaml.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			got, err := rendered(t, withDefaults(t, less), set)
			if err != nil {
				t.Fatal(err)
			}
			same(t, value.Path, got, wanted)
		})
	}
}

func TestWithoutAllValuesTheChartIsAsWithThem(t *testing.T) {
	wanted, err := rendered(t, chart, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := rendered(t, withDefaults(t, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "{}", got, wanted)
}

// Each file is values.yaml of an earlier chart.
func TestTheValuesOfEarlierChartsRender(t *testing.T) {
	files, err := filepath.Glob("testdata/values-*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	now, err := rendered(t, chart, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := rendered(t, withDefaults(t, text), map[string]any{"replicas": 2})
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		names := texts(got)
		for _, object := range now {
			// A guard that is new is there, too.
			if names[object.Name] == "" {
				t.Errorf("%s: %s is missing", file, object.Name)
			}
		}
		look(t, got, Expect{Object: "PodDisruptionBudget/whittle"})
		look(t, got, Expect{Object: "Deployment/whittle", Path: "spec/template/spec/securityContext/runAsUser", Is: 65532.0})
	}
}

func TestEachTemplateFillsInWhatTheValuesLack(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.yaml", "*/*.yaml", "*.txt"} {
		found, err := filepath.Glob(chart + "/templates/" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 15 {
		t.Fatal(files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "{{- include \"whittle.fill\" . -}}\n") {
			t.Errorf("%s does not begin with whittle.fill: without it --reuse-values may fail there", file)
		}
	}
	helpers, err := os.ReadFile(chart + "/templates/_helpers.tpl")
	if err != nil {
		t.Fatal(err)
	}
	list := "list \"" + strings.Join(slices.Clone(whole), "\" \"") + "\""
	if !strings.Contains(string(helpers), list) {
		t.Errorf("whittle.fillIn has another list than %s", list)
	}
}
