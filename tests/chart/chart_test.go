package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"
)

const chart = "../../charts/whittle"

// Case is values, and what must then be in what is rendered.
type Case struct {
	Name   string         `json:"name"`
	Values map[string]any `json:"values"`
	// In the words of helm, where it must refuse them.
	Fails  string   `json:"fails"`
	Expect []Expect `json:"expect"`
}

// Expect is one look at an object; without a path, at whether it is there.
type Expect struct {
	Object string `json:"object"`
	Path   string `json:"path"`
	Is     any    `json:"is"`
	Has    string `json:"has"`
	Absent bool   `json:"absent"`
}

var tool = sync.OnceValues(func() (string, error) {
	command := exec.Command("go", "run", ".", "build", "helm", "kubectl")
	command.Dir = "../cluster"
	command.Stderr = os.Stderr
	out, err := command.Output()
	return strings.TrimSpace(string(out)), err
})

func program(t *testing.T, name string) string {
	t.Helper()
	folder, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, name)
}

func cases(t *testing.T) []Case {
	t.Helper()
	files, err := filepath.Glob("cases/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	var all []Case
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var here []Case
		if err := yaml.UnmarshalStrict(text, &here); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, here...)
	}
	return all
}

func rendered(t *testing.T, chart string, values any) ([]Object, error) {
	t.Helper()
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	out, err := render(program(t, "helm"), chart, text)
	if err != nil {
		return nil, err
	}
	return documents(out)
}

func TestWhatIsRenderedIsWhatTheValuesSay(t *testing.T) {
	for _, one := range cases(t) {
		t.Run(one.Name, func(t *testing.T) {
			t.Parallel()
			objects, err := rendered(t, chart, one.Values)
			if one.Fails != "" {
				if err == nil || !strings.Contains(err.Error(), one.Fails) {
					t.Fatalf("not refused with %q: %v", one.Fails, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(one.Expect) == 0 {
				t.Fatal("nothing is expected")
			}
			for _, expected := range one.Expect {
				look(t, objects, expected)
			}
		})
	}
}

func look(t *testing.T, objects []Object, expected Expect) {
	t.Helper()
	index := slices.IndexFunc(objects, func(object Object) bool { return object.Name == expected.Object })
	if index < 0 {
		if !expected.Absent || expected.Path != "" {
			t.Errorf("%s is missing", expected.Object)
		}
		return
	}
	if expected.Path == "" {
		if expected.Absent {
			t.Errorf("%s is there", expected.Object)
		} else if !strings.Contains(string(objects[index].Raw), expected.Has) {
			t.Errorf("%s has no %q", expected.Object, expected.Has)
		}
		return
	}
	found, is := at(objects[index].Tree, expected.Path)
	switch {
	case expected.Absent && is:
		t.Errorf("%s: %s is %v", expected.Object, expected.Path, found)
	case expected.Absent:
	case !is:
		t.Errorf("%s: %s is missing", expected.Object, expected.Path)
	case expected.Has != "":
		if text, _ := json.Marshal(found); !strings.Contains(string(text), expected.Has) {
			t.Errorf("%s: %s has no %q: %s", expected.Object, expected.Path, expected.Has, text)
		}
	case !reflect.DeepEqual(found, expected.Is):
		t.Errorf("%s: %s is %#v and not %#v", expected.Object, expected.Path, found, expected.Is)
	}
}

// described is what values.yaml says of each value and group.
func described(t *testing.T) []Value {
	t.Helper()
	text, err := os.ReadFile(chart + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// values are those of values.yaml, without groups.
func values(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, value := range described(t) {
		if !value.Group {
			paths = append(paths, value.Path)
		}
	}
	return paths
}

func TestEveryValueIsInACase(t *testing.T) {
	all := cases(t)
	for _, path := range values(t) {
		in := slices.ContainsFunc(all, func(one Case) bool {
			_, is := at(one.Values, strings.ReplaceAll(path, ".", "/"))
			return is && one.Fails == ""
		})
		if !in {
			t.Errorf("%s: no case of tests/chart/cases sets it", path)
		}
	}
}

// properties are the paths of a schema that has them, to the values at which values.yaml stops.
func properties(schema, definitions map[string]any, prefix string, known []string) []string {
	if reference, is := schema["$ref"].(string); is {
		schema = definitions[strings.TrimPrefix(reference, "#/definitions/")].(map[string]any)
	}
	inner, _ := schema["properties"].(map[string]any)
	if slices.Contains(known, prefix) || len(inner) == 0 {
		return []string{prefix}
	}
	var all []string
	for key, value := range inner {
		all = append(all, properties(value.(map[string]any), definitions, strings.TrimPrefix(prefix+"."+key, "."), known)...)
	}
	return all
}

func TestTheSchemaKnowsTheValuesAndNoOthers(t *testing.T) {
	text, err := os.ReadFile(chart + "/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	known := values(t)
	inSchema := properties(schema, schema["definitions"].(map[string]any), "", known)
	for _, path := range known {
		if !slices.Contains(inSchema, path) {
			t.Errorf("%s is missing in values.schema.json", path)
		}
	}
	for _, path := range inSchema {
		// What selfGuard was called once.
		if !slices.Contains(known, path) && path != "secretGuard.enabled" {
			t.Errorf("%s is missing in values.yaml", path)
		}
	}
}

func TestEachValueIsDescribedOrItsGroupIs(t *testing.T) {
	all := described(t)
	clear := []string{"enabled", "create", "annotations", "labels", "name", "resources", "image", "imagePullPolicy", "pullPolicy", "priorityClassName",
		"tolerations", "nodeSelector", "repository", "interval", "namespace", "scrapeTimeout", "honorLabels", "relabelings", "metricRelabelings", "key",
		"className", "host", "tlsSecret", "parentRefs", "hostnames", "apiServerPorts"}
	for _, value := range all {
		last := value.Path[strings.LastIndex(value.Path, ".")+1:]
		if !value.Group && value.Text == "" && !slices.Contains(clear, last) {
			t.Errorf("%s has no comment in values.yaml", value.Path)
		}
	}
}
