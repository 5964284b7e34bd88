-- Takes from several buckets, or from none if one of them has too little (the generic cell rate
-- algorithm, ITU-T I.371).
--
-- A bucket is the time in ms at which it will be full again; without a key it is full.
-- KEYS  buckets
-- ARGV  for each bucket: in how many ms it fills from nothing, and in how many what is taken
-- Returns the number of the bucket that keeps the caller waiting for longest, from 1, and for how
-- many ms; 0 and 0 when all was taken.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local kept = redis.call('MGET', unpack(KEYS))
local full_at, emptiest, wait = {}, 0, 0
for i = 1, #KEYS do
  local fills, taken = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  -- Not beyond what an empty bucket needs: the clock may have been set back.
  local before = math.min(math.max(tonumber(kept[i]) or now, now), now + fills)
  full_at[i] = before + taken
  if full_at[i] - now - fills > wait then
    emptiest, wait = i, full_at[i] - now - fills
  end
end
if emptiest == 0 then
  for i = 1, #KEYS do
    local life = math.ceil(full_at[i] - now)
    redis.call('SET', KEYS[i], string.format('%.3f', full_at[i]), 'PX', math.max(life, 1))
  end
end
return {emptiest, math.ceil(wait)}
