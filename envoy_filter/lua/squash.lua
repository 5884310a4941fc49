-- Holds marked requests: runs inside Envoy, in the HTTP filter that envoy_filter/envoy.py renders.
-- That renderer puts a table `settings` in front of this file (cluster, time limits, header names), so that
-- nothing stands both here and in Python.

-- Request headers come from strangers. The sidecar's HTTP parser refuses control characters, and a call that it
-- refuses would be a hold that never was, so they are taken out here; their length is bounded here, too.
local function clean(value, longest)
  return (value:sub(1, longest):gsub("%c", " "))
end

local function call(handle, method, path, timeout_ms, headers)
  headers[":method"] = method
  headers[":path"] = path
  headers[":authority"] = "squash-sidecar"
  -- Does not block the worker: Envoy suspends this script, and with it the request, body and trailers.
  -- The call is broken off when the request's caller hangs up; that is how the sidecar hears of it.
  return handle:httpCall(settings.cluster, headers, nil, timeout_ms)
end

-- The mark may stand in baggage, whose members are separated by commas.
local function marked(request)
  if request:get(settings.mark) then
    return true
  end
  local baggage = request:get(settings.baggage)
  return baggage and ("," .. baggage):find(",[ \t]*" .. settings.member .. "[ \t]*=") ~= nil
end

local function hold(handle)
  local request = handle:headers()
  local told = {}
  for source, header in pairs(settings.forwarded) do
    local value = request:get(source)
    if value then
      told[header.name] = clean(value, header.longest)
    end
  end
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
    local onward = handle:headers()
    for _, name in ipairs(settings.onward) do
      if answer[name] then
        onward:replace(name, answer[name])
      end
    end
    return answer[settings.result_header], answer[settings.ignored_header]
  end
end

function envoy_on_request(handle)
  -- The matcher around this filter says the same, cheaper; this is for those who use the filter without it.
  if not marked(handle:headers()) then
    return
  end
  -- Whatever goes wrong in there, the request goes on.
  local ok, result, ignored = pcall(hold, handle)
  if not ok then
    handle:logErr("squash: " .. tostring(result))
  elseif ignored then
    return
  end
  -- The two callbacks share no variables; the metadata is also there for access logs,
  -- as %DYNAMIC_METADATA(squash:result)%.
  handle:streamInfo():dynamicMetadata():set("squash", "result", ok and result or settings.unreachable)
end

function envoy_on_response(handle)
  local ours = handle:streamInfo():dynamicMetadata():get("squash")
  if ours then
    handle:headers():replace(settings.result_header, ours.result)
  end
end
