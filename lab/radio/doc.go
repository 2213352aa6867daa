// Package radio makes nodes with simulated Wi-Fi radios, inside the lab's guest (nigh/lab/vm): each node is a network
// namespace with a radio of mac80211_hwsim, a D-Bus bus of its own and a real wpa_supplicant on it. The radios hear each other.
//
// Tests take nodes by [Nodes]; other programs, such as the demo, by [Open]. Outside of the guest both refuse with
// [ErrNotInLab], because to load radios into a real machine's kernel is not a test's business.
//
// # What is real and what is not
//
// The frames, the key handshakes, P2P and WPS are those of the kernel's mac80211 and of wpa_supplicant. The air is not: every
// radio hears every other one at the same strength and nothing is lost.
//
// # Access points and plain clients
//
// A node of Config.Plain has a wpa_supplicant without P2P: by [Node.Join] it is a client of any WPA2 network, a P2P group's
// included, and by [Node.Serve] an access point (hostapd). A P2P node can Join an access point too, as a laptop does that has a
// Wi-Fi connection beside a group; [Node.Ping] counts what that connection loses.
//
// # Cells
//
// What differs between real machines is a [Config]'s to say: with and without a P2P device, radios that can be on one channel
// or two, long interface names, several radios, a newer wpa_supplicant. The environment variable NIGH_LAB_CELL sets it for
// all tests that leave it open, so that the same tests run on the whole matrix; see [ParseCell].
//
// # Names
//
// wpa_supplicant is started as Debian's service is, with its control sockets in /run/wpa_supplicant, and with the radio's
// interface added. Radios are numbered through the guest, so the interface of node n1 is wlan1, not wlan0.
package radio
