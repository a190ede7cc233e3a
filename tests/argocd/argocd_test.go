package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// As Argo CD's util/lua/health_test.go and custom_actions_test.go read them, so that the folders pass there, too.
type healthTests struct {
	Tests []struct {
		InputPath    string `json:"inputPath"`
		HealthStatus Health `json:"healthStatus"`
	} `json:"tests"`
}

type actionTests struct {
	DiscoveryTests []struct {
		InputPath string   `json:"inputPath"`
		Result    []Action `json:"result"`
	} `json:"discoveryTests"`
	ActionTests []struct {
		Action             string `json:"action"`
		InputPath          string `json:"inputPath"`
		ExpectedOutputPath string `json:"expectedOutputPath"`
	} `json:"actionTests"`
}

// Annotations that hold the time of the click.
var times = []string{"whittle.dev/requestedAt", "whittle.dev/prune"}

// What Argo CD shows where kstatus says this.
var agreement = map[string][]string{
	"InProgress": {"Progressing", "Suspended"},
	"Current":    {"Healthy"},
	"Failed":     {"Degraded"},
}

func text(t *testing.T, path string) string {
	t.Helper()
	bytes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes)
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func object(t *testing.T, path string) map[string]any {
	t.Helper()
	var object map[string]any
	read(t, path, &object)
	return object
}

// kinds are the folders of all kinds.
func kinds(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(customizations, "*", "*"))
	if err != nil || len(found) != 2 {
		t.Fatalf("%v, %v", found, err)
	}
	return found
}

// inputs fails where a file of testdata is in no test.
func inputs(t *testing.T, folder string, used map[string]bool) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(folder, "testdata", "*.yaml"))
	if len(files) == 0 {
		t.Errorf("no testdata in %s", folder)
	}
	for _, file := range files {
		if name, _ := filepath.Rel(folder, file); !used[name] {
			t.Errorf("%s is in no test", file)
		}
	}
}

func TestHealthIsWhatTheTestsOfEachKindSay(t *testing.T) {
	for _, kind := range kinds(t) {
		var tests healthTests
		read(t, filepath.Join(kind, "health_test.yaml"), &tests)
		used, codes := map[string]bool{}, map[string]bool{}
		for _, test := range tests.Tests {
			used[test.InputPath] = true
			codes[test.HealthStatus.Status] = true
			t.Run(filepath.Base(kind)+"/"+test.InputPath, func(t *testing.T) {
				input := &unstructured.Unstructured{}
				json, err := yaml.YAMLToJSON([]byte(text(t, filepath.Join(kind, test.InputPath))))
				if err == nil {
					err = input.UnmarshalJSON(json)
				}
				if err != nil {
					t.Fatal(err)
				}
				found, err := verdict(input)
				if err != nil {
					t.Fatal(err)
				}
				if found.Health != test.HealthStatus {
					t.Errorf("found %+v, expected %+v", found.Health, test.HealthStatus)
				}
				if !slices.Contains(agreement[found.Kstatus], found.Status) {
					t.Errorf("kstatus says %s, Argo CD %s", found.Kstatus, found.Status)
				}
				// Argo CD's own test reads numbers as floats.
				if floats, err := health(object(t, filepath.Join(kind, test.InputPath)), text(t, filepath.Join(kind, "health.lua"))); err != nil || floats != found.Health {
					t.Errorf("%+v, %v", floats, err)
				}
			})
		}
		inputs(t, kind, used)
		for _, code := range []string{"Progressing", "Healthy", "Degraded"} {
			if !codes[code] {
				t.Errorf("%s: no test ends with %s", kind, code)
			}
		}
	}
}

func TestActionsAreOfferedAndDoWhatTheTestsOfEachKindSay(t *testing.T) {
	for _, kind := range kinds(t) {
		folder := filepath.Join(kind, "actions")
		var tests actionTests
		read(t, filepath.Join(folder, "action_test.yaml"), &tests)
		used := map[string]bool{}
		for _, test := range tests.DiscoveryTests {
			used[test.InputPath] = true
			t.Run(fmt.Sprintf("%s/discovery/%s", filepath.Base(kind), test.InputPath), func(t *testing.T) {
				found, err := offered(object(t, filepath.Join(folder, test.InputPath)), text(t, filepath.Join(folder, "discovery.lua")))
				if err != nil {
					t.Fatal(err)
				}
				expected := map[string]Action{}
				for _, action := range test.Result {
					expected[action.Name] = action
				}
				if !reflect.DeepEqual(found, expected) {
					t.Errorf("found %v, expected %v", found, expected)
				}
				for name := range found {
					if _, err := os.Stat(filepath.Join(folder, name, "action.lua")); err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := map[string]bool{}
		for _, test := range tests.ActionTests {
			used[test.InputPath], used[test.ExpectedOutputPath], done[test.Action] = true, true, true
			t.Run(fmt.Sprintf("%s/actions/%s/%s", filepath.Base(kind), test.Action, test.InputPath), func(t *testing.T) {
				script := text(t, filepath.Join(folder, test.Action, "action.lua"))
				found, err := act(object(t, filepath.Join(folder, test.InputPath)), script)
				if err != nil {
					t.Fatal(err)
				}
				expected := object(t, filepath.Join(folder, test.ExpectedOutputPath))
				clicked(t, found, expected)
				if !reflect.DeepEqual(found, expected) {
					t.Errorf("found %v\nexpected %v", found, expected)
				}
			})
		}
		inputs(t, folder, used)
		scripts, _ := filepath.Glob(filepath.Join(folder, "*", "action.lua"))
		for _, script := range scripts {
			if name := filepath.Base(filepath.Dir(script)); !done[name] {
				t.Errorf("the action %s is in no test: %v", name, slices.Collect(maps.Keys(done)))
			}
		}
	}
}

// clicked holds the time of a click against now, and puts it where the expected object has another one.
func clicked(t *testing.T, found, expected map[string]any) {
	t.Helper()
	now, _, _ := unstructured.NestedStringMap(found, "metadata", "annotations")
	then, _, _ := unstructured.NestedStringMap(expected, "metadata", "annotations")
	for _, name := range times {
		if then[name] == "" || now[name] == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, now[name])
		if age := time.Since(at); err != nil || age < 0 || age > time.Minute {
			t.Errorf("%s is %q: %v", name, now[name], err)
		}
		_ = unstructured.SetNestedField(expected, now[name], "metadata", "annotations", name)
	}
}

func TestTheScriptsUseNothingThatArgoCDDoesNotGive(t *testing.T) {
	for _, missing := range []string{"string.format('%d', 1)", "io.open('/etc/passwd')", "os.exit(1)", "require('os').getenv('HOME')", "math.floor(1)"} {
		if _, err := run(map[string]any{}, "return {a = "+missing+"}"); err == nil {
			t.Errorf("%s works here, and not in Argo CD", missing)
		}
	}
	if _, err := run(map[string]any{}, "while true do end"); err == nil {
		t.Error("a script that never ends was not ended")
	}
}

func TestTheConfigMapIsMadeOfTheScripts(t *testing.T) {
	made, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	if text(t, "../../config/argocd/argocd-cm.yaml") != made {
		t.Error("config/argocd/argocd-cm.yaml is out of date: run make generate")
	}
	// As Argo CD reads it: the scripts come out as they are in the files.
	var found struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.Unmarshal([]byte(made), &found); err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds(t) {
		key := filepath.Base(filepath.Dir(kind)) + "_" + filepath.Base(kind)
		if found.Data["resource.customizations.health."+key] != text(t, filepath.Join(kind, "health.lua")) {
			t.Errorf("health of %s", key)
		}
		var actions struct {
			Discovery   string `json:"discovery.lua"`
			Definitions []struct {
				Name   string `json:"name"`
				Script string `json:"action.lua"`
			} `json:"definitions"`
		}
		if err := yaml.UnmarshalStrict([]byte(found.Data["resource.customizations.actions."+key]), &actions); err != nil {
			t.Fatal(err)
		}
		if actions.Discovery != text(t, filepath.Join(kind, "actions/discovery.lua")) || len(actions.Definitions) == 0 {
			t.Errorf("actions of %s: %+v", key, actions)
		}
		for _, action := range actions.Definitions {
			if action.Script != text(t, filepath.Join(kind, "actions", action.Name, "action.lua")) {
				t.Errorf("action %s of %s", action.Name, key)
			}
		}
	}
}
