-- Read a room's log after a position, or its latest events, as one step.
--
-- KEYS  meta, log and removed, as in append.lua
-- ARGV  epoch and offset asked for ("" and 0: none), most events and most bytes of a recovery,
--       number of latest events, life of an idle room (s), an epoch to use if there is none;
--       then any number of user ids
-- Returns epoch, offset, when the epoch began, 1 if the events are all that followed the position
-- asked for, those of the users who are removed, and the events as {id, {field, event}}, oldest
-- first.
local meta, log, removed = KEYS[1], KEYS[2], KEYS[3]
local since_epoch, since = ARGV[1], tonumber(ARGV[2])
local most_events, most_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local latest, room_life, new_epoch = tonumber(ARGV[5]), ARGV[6], ARGV[7]

local known = redis.call('HMGET', meta, 'epoch', 'offset', 'began')
local epoch, offset, began = known[1], tonumber(known[2]), known[3]
if not epoch then
  -- A reader of a room without a log gets a real position too. Without one it could not find out
  -- later whether a log is the one that it asked about.
  local time = redis.call('TIME')
  epoch, offset, began = new_epoch, 0, string.format('%d.%06d', time[1], time[2])
  redis.call('DEL', log)
  redis.call('HSET', meta, 'epoch', epoch, 'offset', 0, 'began', began)
end
redis.call('EXPIRE', meta, room_life)
redis.call('EXPIRE', log, room_life)

local function bytes_of(entries)
  local bytes = 0
  for _, entry in ipairs(entries) do bytes = bytes + #entry[2][2] end
  return bytes
end

local gone = {}
for i = 8, #ARGV do
  if redis.call('ZSCORE', removed, ARGV[i]) then gone[#gone + 1] = ARGV[i] end
end

if epoch == since_epoch and since <= offset and offset - since <= most_events then
  local entries = {}
  if since < offset then
    entries = redis.call('XRANGE', log, (since + 1) .. '-0', offset .. '-0')
  end
  if #entries == offset - since and bytes_of(entries) <= most_bytes then
    return {epoch, offset, began, 1, gone, entries}
  end
end

local entries, bytes = {}, 0
for _, entry in ipairs(redis.call('XREVRANGE', log, '+', '-', 'COUNT', latest)) do
  bytes = bytes + #entry[2][2]
  if bytes > most_bytes then break end
  table.insert(entries, 1, entry)
end
return {epoch, offset, began, 0, gone, entries}
