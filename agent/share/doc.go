// Package share is what this device lets others see of its folders, and what it asks others to see of theirs: shared folders with
// their index, browsing, search, and asking for an entry. It does not move files: the holder of what was asked for offers it (Config.Send)
// under the transfer name that the asker chose, and everything is pulled as always. It does not know whom the person trusts
// (Config.Caller) and does not dial (Config.Peers).
//
// # Shares
//
// A share is a folder under a name, read-only, seen by all trusted devices or by the named ones. What is not in the index of a share cannot be
// listed, found or had:
//
//	not in the index                    because
//	symbolic links                      never followed, also where they stay inside
//	devices, FIFOs, sockets             not files
//	names that begin with a dot         unless the share is made with hidden names
//	names that package receive refuses  no receiver could write them
//	parts of transfers (".nigh-part")   not whole
//	what this user cannot read          counted
//	entries over MaxEntries             counted as one fact, the rest is there
//
// Every directory is opened component by component without following a link, from the share's folder on. File systems mounted inside it are part
// of it. A folder that was replaced by an empty one of another inode is one that is not mounted: nothing of the share is served until it is back.
//
// # Index
//
// The index is in the store, a value for each entry, so that memory does not grow with it and a restart hashes nothing again. A scan at the start
// finds what changed; inotify tells of later changes, directory by directory. Where it cannot (no watches left, network file systems) the share
// is scanned every ten minutes instead, and says so. A file whose size, mtime, ctime or inode changed is hashed again.
//
// Files are hashed one at a time on a thread of the lowest priority, not while a transfer runs, and in at most about a tenth of the time.
//
// # Endpoints
//
// The holder serves them to trusted devices; each request is held against the audience of the share. To all others, and for what a device may
// not see, the answer is 404 not_found, as for what does not exist. Refusals are JSON {code}. JSON is UTF-8; unknown fields are ignored.
//
//	request                                        answer                                                   bound
//	GET  /v1/shares                                {shares:[{name, files, dirs, bytes, state}]}             32 shares
//	POST /v1/shares/browse {share, path, after,    {entries:[{name, dir, executable, size, mtime, hash}],   1000 entries, 256 KiB
//	                        limit}                  more}; in the order of names, those after "after"
//	POST /v1/shares/search {query | hash, limit}   {results:[{share, path, and as above}], more}            200 results, 2 s
//	POST /v1/shares/get {x, share, path | hash}    202: the entry will be offered as transfer x             16 for each device
//
// A query is words; each occurs in the path of a result, at least one in its name, whatever their case and Unicode form. Requests of one device
// are limited to 20 a second, searches to 4; more are 429 busy.
package share
