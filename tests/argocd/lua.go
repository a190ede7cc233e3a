package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
)

// Health is what Argo CD shows of an object.
type Health struct {
	Status  string `json:"status"`
	Message string `json:"message,omitempty"`
}

// Action is one that Argo CD offers.
type Action struct {
	Name     string `json:"name"`
	Disabled bool   `json:"disabled,omitempty"`
}

// The codes of gitops-engine that a script may return.
var codes = map[string]bool{"Unknown": true, "Progressing": true, "Suspended": true, "Healthy": true, "Degraded": true, "Missing": true}

// run is Argo CD's runLua (util/lua/lua.go) for a script of argocd-cm: package, base, table, and of os only time and date;
// neither string nor io; a second at most.
func run(object map[string]any, script string) (lua.LValue, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage,
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	} {
		call := lua.P{Fn: state.NewFunction(open), Protect: true}
		if err := state.CallByParam(call, lua.LString(name)); err != nil {
			return nil, err
		}
	}
	state.PreloadModule(lua.OsLibName, safeOs)
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(limit)
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	returned := state.Get(-1)
	if returned.Type() != lua.LTTable {
		return nil, fmt.Errorf("expect table output from Lua script, not %s", returned.Type())
	}
	return returned, nil
}

// safeOs is the whole of Lua's os without all but these two.
func safeOs(state *lua.LState) int {
	lua.OpenOs(state)
	whole := state.CheckTable(-1)
	safe := state.NewTable()
	for _, name := range []string{"time", "date"} {
		safe.RawSetString(name, whole.RawGetString(name))
	}
	state.SetGlobal(lua.OsLibName, lua.LNil)
	state.SetField(state.GetField(state.Get(lua.RegistryIndex), "_LOADED"), lua.OsLibName, safe)
	state.Push(safe)
	return 1
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case float64:
		return lua.LNumber(value)
	case int64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		list := state.CreateTable(len(value), 0)
		for _, item := range value {
			list.Append(toLua(state, item))
		}
		return list
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}

// decode reads what a script has returned, as JSON.
func decode(returned lua.LValue, into any) error {
	text, err := luajson.Encode(returned)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// health is what Argo CD's GetResourceHealth says: what is being deleted is asked nothing.
func health(object map[string]any, script string) (Health, error) {
	if metadata, _ := object["metadata"].(map[string]any); metadata["deletionTimestamp"] != nil {
		return Health{"Progressing", "Pending deletion"}, nil
	}
	var found Health
	returned, err := run(object, script)
	if err == nil {
		err = decode(returned, &found)
	}
	if err == nil && !codes[found.Status] {
		err = fmt.Errorf("Lua returned an invalid health status: %q", found.Status)
	}
	return found, err
}

// act is Argo CD's ExecuteResourceAction for a script that returns the object changed.
func act(object map[string]any, script string) (map[string]any, error) {
	var changed map[string]any
	returned, err := run(object, script)
	if err == nil {
		err = decode(returned, &changed)
	}
	return cleaned(changed, object), err
}

// cleaned is Argo CD's cleanReturnedObj: Lua has one kind of empty table, and it comes back as a list.
func cleaned(changed, object map[string]any) map[string]any {
	for key, old := range object {
		switch now := changed[key].(type) {
		case map[string]any:
			if old, ok := old.(map[string]any); ok {
				changed[key] = cleaned(now, old)
			}
		case []any:
			switch old := old.(type) {
			case map[string]any:
				if len(now) == 0 {
					changed[key] = old
				}
			case []any:
				for i := range min(len(now), len(old)) {
					if now, ok := now[i].(map[string]any); ok {
						if old, ok := old[i].(map[string]any); ok {
							cleaned(now, old)
						}
					}
				}
			}
		}
	}
	return changed
}

// offered is Argo CD's ExecuteResourceActionDiscovery.
func offered(object map[string]any, script string) (map[string]Action, error) {
	found := map[string]Action{}
	returned, err := run(object, script)
	if err == nil {
		err = decode(returned, &found)
	}
	for name, action := range found {
		action.Name = name
		found[name] = action
	}
	return found, err
}
