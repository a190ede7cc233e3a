local suspended = obj.spec.suspend == true
local running = obj.status ~= nil and obj.status.current ~= nil
return {
  ["rebuild"] = {["disabled"] = false},
  ["cancel"] = {["disabled"] = not running},
  ["suspend"] = {["disabled"] = suspended},
  ["resume"] = {["disabled"] = not suspended}
}
