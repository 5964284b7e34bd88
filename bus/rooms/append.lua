-- Append events to a room's log and publish each on the room's channel, as one step.
--
-- KEYS  meta (hash: epoch, offset, began, renewed, rebuild), log (stream, ids "<offset>-0"),
--       seen (sorted set: event id by time), removed (sorted set: user id by time)
-- ARGV  channel, longest log, life of a seen id (s), life of an idle room (s), how often that is
--       renewed (s), an epoch to use if there is none, replay run or "", the epoch and offset
--       that the writer got last ("" and 0: none);
--       then for each event: its id, the event (JSON), and "-<user>" if it removes that user,
--       "+<user>" if it adds them, else ""
-- Returns the epoch, and for each event its offset, or 0 when it was seen before or the replay
-- must not touch this room.
--
-- On the channel: "<epoch> <offset>@<when this script ran, s since 1970> <event>". A bridge of a
-- release without the time refuses such an offset, and reads the event from the log.
--
-- Redis does not undo what a script did before an error. So the commands that fail on a key of
-- another type come before those that must not be repeated: an event that failed is not in the
-- log, and its id does not count as seen. When its memory is full, Redis refuses a script's first
-- write, if that needs memory.
local meta, log, seen, removed = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, longest, seen_life, room_life = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local renewal, new_epoch, replay = tonumber(ARGV[5]), ARGV[6], ARGV[7]
local last_epoch, last_offset = ARGV[8], tonumber(ARGV[9])

local ids, bodies, changes = {}, {}, {}
for i = 10, #ARGV, 3 do
  ids[#ids + 1], bodies[#bodies + 1], changes[#changes + 1] = ARGV[i], ARGV[i + 1], ARGV[i + 2]
end

local known = redis.call('HMGET', meta, 'epoch', 'offset', 'renewed', 'rebuild')
local epoch, offset, renewed, rebuild = known[1], tonumber(known[2]), tonumber(known[3]), known[4]
-- A reader may have begun the epoch before there was any event: then there is no log yet.
local empty = not epoch or offset == 0

local offsets = {}
for i in ipairs(ids) do offsets[i] = 0 end
-- A replay fills a room that has no log, and only until the first live event comes.
if replay ~= '' and not empty and rebuild ~= replay then
  return {epoch, offsets}
end

-- A failover to a replica that lagged took back events that readers have: their positions mean
-- something else here.
local taken_back = epoch == last_epoch and last_offset > offset

local time = redis.call('TIME')
local now = tonumber(time[1])
local logged_at = string.format('%d.%06d', time[1], time[2])
if not epoch or taken_back or (empty and replay ~= '') then
  -- A replay publishes nothing; the new epoch makes readers of this room notice it later.
  epoch, offset, renewed = new_epoch, 0, nil
  redis.call('HSET', meta, 'epoch', epoch, 'offset', 0,
    'began', logged_at)
  redis.call('DEL', log)
  if not taken_back then redis.call('DEL', seen) end
  if replay ~= '' then redis.call('HSET', meta, 'rebuild', replay) end
end

local scores = redis.call('ZMSCORE', seen, unpack(ids))
local fresh, marks, met = {}, {}, {}
for i, id in ipairs(ids) do
  if not scores[i] and not met[id] then
    met[id] = true
    fresh[#fresh + 1] = i
    marks[#marks + 1] = now
    marks[#marks + 1] = id
  end
end
if rebuild and replay == '' then redis.call('HDEL', meta, 'rebuild') end
if #fresh == 0 then
  return {epoch, offsets}
end

if replay == '' then
  -- A ticket older than this event must not let a removed user in. Tickets are valid for less
  -- than seen_life, so no entry is needed for longer.
  for _, i in ipairs(fresh) do
    local sign, user = changes[i]:sub(1, 1), changes[i]:sub(2)
    if sign == '-' then
      redis.call('ZADD', removed, now, user)
      redis.call('ZREMRANGEBYSCORE', removed, '-inf', '(' .. (now - seen_life))
      redis.call('EXPIRE', removed, seen_life)
    elseif sign == '+' then
      redis.call('ZREM', removed, user)
    end
  end
end

for _, i in ipairs(fresh) do
  offset = offset + 1
  offsets[i] = offset
  redis.call('XADD', log, 'MAXLEN', '~', longest, offset .. '-0', 'event', bodies[i])
  if replay == '' then
    redis.call('PUBLISH', channel,
      epoch .. ' ' .. offset .. '@' .. logged_at .. ' ' .. bodies[i])
  end
end
redis.call('ZADD', seen, unpack(marks))
if renewed and now - renewed < renewal then
  redis.call('HSET', meta, 'offset', offset)
  return {epoch, offsets}
end

redis.call('HSET', meta, 'offset', offset, 'renewed', now)
redis.call('ZREMRANGEBYSCORE', seen, '-inf', '(' .. (now - seen_life))
for _, key in ipairs({meta, log, seen}) do redis.call('EXPIRE', key, room_life) end
return {epoch, offsets}
