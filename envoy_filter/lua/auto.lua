-- Auto-debug: runs inside Envoy while a debug request with a trigger is pending. The renderer (envoy_filter/auto.py)
-- puts a table `settings` in front of this file, and says in `settings.role` which of the three filters it is.

local function clean(value, longest)
  return (value:sub(1, longest):gsub("%c", " "))
end

local function call(handle, method, path, timeout_ms, headers, unanswered)
  headers[":method"] = method
  headers[":path"] = path
  headers[":authority"] = "squash-sidecar"
  return handle:httpCall(settings.cluster, headers, nil, timeout_ms, unanswered == true)
end

-- What the sidecar says at the end of the hold; nil when there was none. The first of the two calls is short, so
-- that a sidecar that is frozen costs little.
local function ask(handle, path, told)
  local answer = call(handle, "POST", path, settings.request_timeout_ms, told)
  local id = answer[settings.hold_header]
  if answer[":status"] == "202" and id then
    answer = call(handle, "GET", "/holds/" .. id, settings.attachment_timeout_ms, {})
  end
  if answer[":status"] == "200" and answer[settings.result_header] then
    handle:streamInfo():dynamicMetadata():set("squash", "result", answer[settings.result_header])
    return answer
  end
end

-- A script that sees a response cannot see its request: the filter beside this one has put what is to be told of it
-- on the response, under names that begin with `settings.told`. They are taken off again here.
local function seen(response)
  local told, ours, answers = {}, {}, 0
  for name, value in pairs(response) do
    if name:sub(1, #settings.told) == settings.told then
      table.insert(ours, name)
      local wire = name:sub(#settings.told + 1)
      told[wire] = clean(value, settings.longest[wire] or settings.longest_otherwise)
    elseif name == ":status" then
      told[settings.status] = value
    elseif name:sub(1, 1) ~= ":" and answers < settings.most_headers then
      answers = answers + 1
      told[settings.answer .. name] = clean(value, settings.longest_otherwise)
    end
  end
  for _, name in ipairs(ours) do
    response:remove(name)
  end
  told[settings.largest_header] = tostring(settings.largest)
  return told
end

-- An answer has failed: it waits here until the sidecar knows whether a debugger gets a second try of the request.
local function failed(handle, told)
  local answer = ask(handle, "/auto/failure", told)
  if answer and answer[settings.replay] then
    -- Anew, because Envoy takes back what it gave before the script was suspended.
    handle:headers():add(settings.replay, "yes")
    handle:streamInfo():dynamicMetadata():set("squash", "mark", settings.mark_value)
  end
end

-- Whatever goes wrong in there, the request or its answer goes on.
local function guarded(handle, doing, ...)
  local ok, problem = pcall(doing, handle, ...)
  if not ok then
    handle:logErr("squash: " .. tostring(problem))
  end
end

if settings.role == "failure" then
  function envoy_on_response(handle)
    guarded(handle, failed, seen(handle:headers()))
  end
elseif settings.role == "latency" then
  function envoy_on_response(handle)
    guarded(handle, function()
      call(handle, "POST", "/auto/slow", settings.request_timeout_ms, seen(handle:headers()), true)
    end)
  end
else
  local function due(handle)
    local request, told = handle:headers(), {}
    for source, header in pairs(settings.forwarded) do
      local value = request:get(source)
      if value then
        told[header.name] = clean(value, header.longest)
      end
    end
    local answer = ask(handle, "/auto/next", told)
    if answer then
      -- Anew, because Envoy takes back what it gave before the script was suspended.
      local onward = handle:headers()
      onward:replace(settings.mark, settings.mark_value)
      for _, name in ipairs(settings.onward) do
        if answer[name] then
          onward:replace(name, answer[name])
        end
      end
    end
  end
  function envoy_on_request(handle)
    guarded(handle, due)
  end
  -- With the mark it may have taken another route, which knows nothing of this.
  function envoy_on_response(handle)
    local ours = handle:streamInfo():dynamicMetadata():get("squash")
    if ours then
      handle:headers():replace(settings.result_header, ours.result)
    end
  end
end
