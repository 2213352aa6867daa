// Package trust is the book of devices that the user decided about: which keys
// are trusted, which are blocked, and what a trusted one may do. It is kept in
// the agent's database; a copy beside it ([Book.KeepCopy]) outlives a damaged one. The
// rules of the machine's admin ([Rules]) are over what the user decided.
//
// Only the user grants trust, by naming a key ([Book.Add]) or by pairing; no
// name, address or announcement ever does. A device that is not in the book is
// new. A change is on the disk before it counts, and subscribers hear of it
// before the call that made it returns, so that the sessions of a device whose
// trust ended are closed at once.
//
// # What others learn
//
// How much of a device others learn before it trusts them is its visibility, set
// in the agent's configuration. What an eavesdropper has who records every frame
// of a network:
//
//	                          everyone       trusted               hidden
//	name                      mDNS, P2P      no                    no
//	short ID                  mDNS, P2P      no                    no
//	key                       P2P advert     no                    no
//	mDNS instance, host name  name, short ID random, see below     none
//	mDNS TXT                  name, short ID nonce and tags        none
//	mDNS questions for _nigh  yes            yes                   yes
//	P2P device name           name, short ID nonce and tags        nonce and tags
//	P2P name while it asks    nonce and tags nonce and tags        nonce and tags
//	P2P address, WPS UUID     yes            yes                   yes
//	P2P probe responses       yes            yes                   only while it searches or has a group
//	that a session is nigh's  yes (ALPN)     yes (ALPN)            yes (ALPN)
//	who has a session         by addresses   by addresses          by addresses
//	sizes and times           yes            yes                   yes
//
// In no mode are in clear: what sessions carry, which is hello, names, offers,
// file and folder names, contents, messages; certificates (TLS 1.3 encrypts those
// of both sides); the name of the user or of the machine, unless the latter is the
// device's name, as it is by default; a host name in DHCP. In every mode are the MAC
// and IP addresses of the link, by which one who was near before may know a machine again:
// hiding those is the task of whoever configures the link. A radio's frames have besides
// the UUID that wpa_supplicant makes of such an address, which stays the same with any
// visibility, and say that the device is a computer; manufacturer, model and serial number
// are blank. Data in a Wi-Fi Direct group is encrypted by the radio once more.
//
// Nonce and tags tell the devices that this one trusts that it is there, and
// nobody else anything but how many tags there are, at least four. They are new at each
// start, in mDNS whenever trust changes, and on the radio after each attempt to form a
// group and every ten minutes. The random mDNS names are new, and nonce and tags with
// them, at each start, when the device comes to another network (before anything is
// said there; at most three times in a minute, and not for groups) and every four to five hours.
// The radio and mDNS never say the same nonce. What is not hidden by that: on a link
// where the device stays, its old names give way to new ones under the same addresses;
// and on two links that it has at the same time it goes by the same names.
//
// A stranger who connects to the session's port, or announces something so that the
// agent greets it, is no eavesdropper but one of the two ends, and is told more:
//
//	                          everyone       trusted               hidden
//	key, ID                   yes (TLS)      yes (TLS)             yes (TLS)
//	name                      hello          no                    no
//	port of sessions          yes            yes                   not when it greets, by which it would be listed
//
// The server's certificate comes before the client's in TLS 1.3: who asks cannot be
// known before it is shown. A hidden device is hidden from those who do not know
// where it is; to be closed to strangers who do takes a firewall.
//
// Why a hidden device does not ask for a word that only friends know before it shows its
// certificate: what goes before it in TLS is in clear. A word in the server name or in the
// application protocol is the attacker's as soon as he hears it, and he need not wait for
// one: he takes the address of a hidden device and is dialled by its friends. To remember the words
// that came does not help, because those never reached the device. A word would have to be
// bound to the key share of its ClientHello, which crypto/tls lets neither side do, and even so
// these have none: who is trusted by ID and never was met, and who types the setup
// code of a device whose owner is not there. They would be locked out.
package trust
