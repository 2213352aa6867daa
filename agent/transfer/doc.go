// Package transfer moves files and folders between devices: offers, sending, receiving, resuming. It serves and calls the endpoints
// below over connections that it is given ([Peers]) and that prove who is at the other end. It does not dial, does not know names of
// devices or what the person trusts (Config.Decide), and leaves every name and every byte on the disk to package receive.
//
// Everything is pulled: to send is to offer, and the receiver asks for what it lacks, as often as it needs to.
//
// # Endpoints
//
// The receiver serves the first, both serve the second, the sender serves the rest. x is the transfer's name between the two devices, 32
// hexadecimal digits, made by the sender; another device that asks for it hears what it would hear had it never been (404). Every refusal is
// JSON {code, reason}; the codes are the words of errors.go. JSON is UTF-8; unknown fields are ignored.
//
//	request                                  body or answer                                                    bound
//	POST /v1/offer                           {v:1, x, label, manifest_root, manifest_bytes, files, dirs,       64 KiB; 16 waiting
//	                                         bytes, tops, names, dotfiles, executables, skipped}; 202          for each peer (4, and 32
//	                                                                                                           in all, of strangers)
//	POST /v1/x/{x}/state                     {state, code, bytes_done, files_failed, hash}; 204                4 KiB
//	GET  /v1/x/{x}/manifest?from=BYTE        the manifest from that byte on                                    4 MiB a page
//	GET  /v1/x/{x}/file/{i}, Range: bytes=   each group of the range followed by its leaf (32 bytes); the      16 MiB or one
//	                                         range begins at a group and ends at one or at the file's end      group
//	GET  /v1/x/{x}/tree/{i}?from=G&to=H      the leaves of the groups [G, H), read from the disk               1024 leaves
//	POST /v1/x/{x}/batch                     {entries:[i..], hashes}; a frame for each, in the same order      1024 files of at
//	                                                                                                           most 1 MiB, 8 MiB
//
//	POST /v1/x/{x}/file/{i}              {lack, bytes}: any of those groups that the sender gave to nobody     16 MiB or one
//	                                         else, as above; 204 when there are none now                       group
//	POST /v1/have                            {v:1, roots, name, entries}; {roots, named, groups}               1000 hashes, 16
//	                                                                                                           files; 40 a second
//	GET  /v1/b/{root}, Range: bytes=         as of a file, of a shared one with that hash                      the same
//	GET  /v1/b/{root}/tree?from=G&to=H       its leaves                                                        the same
//	GET  /v1/h/{name}/file/{i}, Range:       as of a file, of what a third device sent to both                 the same
//
// A frame is the entry's number (32 bits, big endian), a status byte, the length of the bytes (32 bits), the bytes, and the hash:
//
//	status    bytes, hash      means
//	0         file, 32 bytes   the whole file
//	1         none, none       it is not what was offered any more ("changed")
//	2         none, none       it cannot be read ("unreadable")
//	3         none, 32 bytes   only hashes were asked for
//
// Groups, leaves and hashes are those of package content. The sender hashes while it sends, so that a leaf comes with its group, the hash
// of a file that was never hashed before is settled with the last one, and one read of the disk does for all. Leaves of
// a file that did not change since it was sent before are remembered; for a range of one group the leaf is always made anew. When the
// manifest has the hash, the file must have it. A wrong group or file is asked for once more; if it is wrong again that file fails
// ("verify"), and when many are, the transfer does.
//
// # Manifest
//
// Entries follow one another without separators. Paths are in the order of their components, bytewise, each after its directory and
// never twice; each shares the first bytes of the one before, but for every 256th, which shares none.
//
//	kind     1 byte      0x01 file, 0x02 directory; | 0x10 executable, | 0x20 hash follows (files only)
//	shared   uvarint     bytes in common with the path before
//	length   uvarint     bytes of the rest of the path
//	rest     bytes       names as package receive takes them, "/" between
//	size     uvarint     files only, at most 4 TiB
//	mtime    varint, uvarint    seconds since 1970, nanoseconds
//	hash     32 bytes    if the flag is set
//
// At most a million entries and 64 MiB. The manifest is named by the BLAKE3 hash of these bytes, and all numbers, flags and names of the
// offer are compared with it before the first file is asked for: what was shown is what is written.
//
// # Receiving
//
//	from         to                                  when
//	(new)        waiting, queued, refused            an offer; accepted by policy at once; forbidden by the rules
//	waiting      queued, refused, failed             accepted; refused; cancelled
//	queued       running, verifying, paused, failed  a turn and a peer; after a restart while committing
//	running      queued, paused, verifying, failed   the connection was lost; all bytes are there
//	paused       queued, failed                      resumed by whoever paused; cancelled
//	verifying    done, queued, paused, failed        synced, renamed, the sender told
//	failed       queued                              resumed after disk_full, no_space, folder
//
// # Sending
//
//	from         to                                        when
//	(new)        queued                                    until the peer has the offer
//	queued       waiting, running, paused, done, refused, failed   it has; or the receiver came back
//	waiting      running, queued, paused, done, refused, failed    the receiver's first request is its answer
//	running      queued, paused, done, refused, failed     no request for some time: the peer is away
//	paused       queued, running, done, refused, failed
//	failed       running                                   the receiver had no space and came back
//
// # Several holders
//
// A file of more than 1 MiB is fetched from up to Limits.Sources devices at once: the peer of the transfer, and trusted devices that say
// that they have it. Smaller files come from the peer, and while that is away one by one from those that share them. Ranges go to
// whoever is free, as long as each brings in some time; who has nothing left to do takes over what another is slow to bring. What a holder
// sent is counted when its leaf is right: of a file whose hash is known the leaves are fetched from any holder, and from a second one
// when none came for 0.4 s, and must give that hash;
// of a content that is sent to several devices the sender says the leaf of each group. A device that sends a wrong group is asked for
// nothing any more and named, and the transfer's own peer is too when another holder is there.
//
// POST /v1/have is answered to trusted devices only, and by two names. roots are hashes: those are told that lie in shares which the
// caller may see, as a search does; what was only received is never told by its hash. name is for what one device sent to several: its
// offers carry a token (swarm) that is told to the receivers and to nobody else, and the name between two of them is the first half of
// HMAC-SHA256(token, "nigh swarm", asking device, asked device). So a receiver is known as such only to other receivers, which trust it and
// which it trusts; those that do not trust one another fetch from the sender alone, and learn nothing of each other.
//
// So that such a content leaves its sender about once, receivers ask it for any groups that no other receiver that they know of has,
// and the sender chooses those that it gave to nobody; it gives a group again when somebody still lacks it 2 s later, or 10 s once half of all was
// given twice. A receiver serves
// what it has verified, and the whole for 10 minutes after it was last asked when it is done. Which holder brought what does not
// matter to the journal: a transfer is resumed with whoever is there.
//
// # Resuming
//
// The receiver keeps in the store the manifest, a bit for every entry that is whole, and for large files a bit and the leaf of every group; it
// syncs and writes that every 64 MiB or 10 s. After a crash groups that have a bit are hashed again and kept when their leaf is right;
// what lies on the disk beyond the journal is compared with the sender's leaves or hashes and kept when they are equal. Nothing else is
// believed. The sender keeps paths, sizes and times of change in the store, so that either side may restart at any time. A lost
// connection is tried again for some time and then when [Engine.Wake] tells that the peer is there.
//
// A source that changed (size, mtime or ctime) fails alone, and the others go on; a transfer in which a file failed ends as failed with the
// code "some_failed", its other files in their places.
//
// What has no room on the disk is left out while the rest comes: in the end the top-level names that are whole get their final names,
// the others stay as parts, and the transfer has failed with "disk_full" until its person resumes it. A name that the disk does
// not take fails alone, with all that lies below it.
//
// A file is written as a ".nigh-part", a folder inside one; their final names come with one rename each when everything is whole and
// synced. A transfer is called done when the sender has been told, or could not be reached for that; it is told later then.
package transfer
