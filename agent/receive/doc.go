// Package receive puts a peer's names and bytes onto the disk, and is the only way there.
//
// Names. [CheckName] and [CheckPath] decide about every name a peer sends, wherever it stands. A name is kept as it came (no
// Unicode form is changed) or refused; it is never repaired.
//
//	refused                                   why
//	not UTF-8                                 cannot be shown or compared
//	empty, ".", "..", with "/" or NUL         means something else to the kernel
//	with "\"                                  a separator elsewhere ("C:\x", "..\x")
//	C0, DEL, C1 controls, U+2028, U+2029      moves a terminal's cursor, breaks a line
//	bidirectional marks and overrides         shows another name than it is ("exe.txt")
//	a component over 255 bytes, a path over 1024 bytes or 64 components
//
// Places. A [Folder] is where a transfer may write: everything happens below its directory, which os.Root opens and removes from.
// A new file is written under the name that [PartName] gives (ending in ".nigh-part"), a new directory inside one directory of such
// a name, so that [Folder.Commit] is one rename for each of them that never replaces anything. Below the folder every component is
// opened by itself with O_NOFOLLOW: unlike os.Root alone, which follows links that stay inside, no symbolic link is followed at
// all, whoever makes one at whatever moment. No link, device, owner, extended attribute or set-user-id bit is ever created.
//
// Space. [Folder.CheckSpace] keeps a reserve free; files of 1 MiB or more get their blocks first, where the file system can, so
// that a disk that is too small is known before the bytes are sent. [WriteAt] gives back the blocks of what is zeros.
//
// The package does not know who sends, does not check content, and starts no goroutine. Package transfer calls it.
package receive
