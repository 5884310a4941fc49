-- Holds marked requests: runs inside Envoy, in the HTTP filter that envoy_filter/envoy.py renders.
-- That renderer puts a table `settings` (cluster, time limits, header names) in front of this file, so that nothing
-- stands both here and in Python, and prelude.lua.

-- The mark may stand in baggage, whose members are separated by commas.
local function marked(request)
  if request:get(settings.mark) then
    return true
  end
  local baggage = request:get(settings.baggage)
  return baggage and ("," .. baggage):find(",[ \t]*" .. settings.member .. "[ \t]*=") ~= nil
end

local function hold(handle)
  local told = forwarded(handle:headers())
  for name, variable in pairs(settings.claims) do
    told[name] = clean(os.getenv(variable) or "", 1024)
  end
  local answer = call(handle, "POST", "/holds", settings.request_timeout_ms, told)
  local id = answer[settings.hold_header]
  if answer[":status"] == "202" and id then
    answer = call(handle, "GET", "/holds/" .. id, settings.attachment_timeout_ms, {})
  end
  if answer[":status"] == "200" then
    -- Anew, because Envoy takes back what it gave before the script was suspended.
    onward(handle:headers(), answer)
    return answer[settings.result_header], answer[settings.ignored_header]
  end
end

function envoy_on_request(handle)
  -- The matcher around this filter says the same, cheaper; this is for those who use the filter without it.
  if not marked(handle:headers()) or noted(handle)[settings.held] then
    return
  end
  -- Whatever goes wrong in there, the request goes on.
  local ok, result, ignored = pcall(hold, handle)
  if not ok then
    handle:logErr("squash: " .. tostring(result))
  elseif ignored then
    return
  end
  -- The two callbacks share no variables.
  note(handle, "result", ok and result or settings.unreachable)
end

function envoy_on_response(handle)
  local result = noted(handle).result
  if result then
    handle:headers():replace(settings.result_header, result)
  end
end
