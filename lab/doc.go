// Package lab gives tests real machines to run on without any hardware: hosts that are Linux network namespaces of this
// machine, joined by Ethernet segments (bridges) and cables (veth pairs). Everything above the link layer is tested here.
//
// It has no radios: those need a kernel with mac80211_hwsim, which the lab boots in a virtual machine (nigh/lab/vm), and
// inside of which nigh/lab/radio makes nodes.
//
// # Limits
//
// A Host separates the network only. Files, users, process identifiers and the clock are those of the machine, and so is
// /sys unless the program runs through [Host.Command], which mounts the namespace's own.
//
// New hosts have IPv6 duplicate address detection off, because it holds every address back for one to two seconds. A test
// that is about detection turns it on before it joins anything: h.Sysctl("net.ipv6.conf.default.accept_dad", "1").
//
// It follows ip-netns(8), veth(4) and network_namespaces(7).
package lab
