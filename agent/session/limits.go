package session

import "time"

// Every bound of the package. What a peer can make grow, wait or repeat has a
// line here.
const (
	// Ports. The default port and how many after it are tried when it is taken.
	defaultPort = 7421
	portTries   = 16

	// Accepting.
	maxHandshakes      = 16              // connections that have not proved a key; as many more from where trusted devices were
	handshakeTimeout   = 5 * time.Second // to prove it
	maxAddresses       = 256             // addresses whose rates are remembered
	maxFriendAddresses = 1024            // addresses remembered at which trusted devices were

	// The budget of strangers: of one address, and of all together. A crowd of 300
	// devices that come at once to a link fits into the bursts; a flood costs a tenth
	// of one processor. Who is trusted is not counted, but for acceptRate.
	acceptRate            = 20 // connections per second from one address
	acceptBurst           = 40
	strangersArrivalRate  = 100 // connections per second: a handshake is 1 ms of processor time
	strangersArrivalBurst = 640
	addressRequestRate    = 40 // requests per second
	addressRequestBurst   = 80
	strangersRequestRate  = 200
	strangersRequestBurst = 1280
	addressByteRate       = 128 << 10 // bytes of bodies per second
	addressByteBurst      = 512 << 10
	strangersByteRate     = 512 << 10
	strangersByteBurst    = 2 << 20
	// Questions to the user: offers. Pairing has bounds of its own.
	addressQuestionPause   = 10 * time.Second // between two, on average
	addressQuestionBurst   = 8                // at once
	strangersQuestionPause = 2 * time.Second
	strangersQuestionBurst = 32

	// Connections that were accepted, or opened for the peer to ask on.
	// With 300 trusted devices near each has its control connection and may want
	// data; an idle one costs about 30 KiB.
	maxTrustedConns  = 1024
	maxStrangerConns = 16
	maxPeerConns     = 8 // of one device; a further one replaces the quietest
	maxStrangerEach  = 4 // the same for a stranger

	// TLS.
	maxCertificate = 2 << 10 // bytes of DER

	// Requests of peers.
	maxHeader           = 8 << 10
	readHeaderTimeout   = 5 * time.Second
	maxBody             = 1 << 20
	maxStrangerBody     = 64 << 10
	bodyTimeout         = 10 * time.Second
	strangerAnswer      = 30 * time.Second // for a stranger to take an answer
	strangerRequestRate = 10               // per second on one connection
	strangerBurst       = 20
	maxRefused          = 20 // requests over the budget until the connection is closed
	idleTimeout         = 90 * time.Second
	maxDialBack         = 2 // at once for one peer

	// Our requests.
	maxResponseHeader     = 8 << 10
	responseHeaderTimeout = 30 * time.Second
	maxControlConns       = 2
	maxBulkConns          = 2
	bulkIdle              = 30 * time.Second
	maxHello              = 4 << 10
	maxHelloName          = 64 // characters
	maxParked             = 3  // nigh/1r connections of a peer that wait for use
	maxPeers              = 256

	// Dialling.
	dialTimeout   = 10 * time.Second // for all candidates together
	maxCandidates = 16
	unknownCost   = 1 << 20 // of a path that the peer found and we know nothing of
	maxSameDials  = 2       // of one address, when there was a kick in between
	dialStagger   = 250 * time.Millisecond
	dialRetry     = 50 * time.Millisecond // while the link is not ready
	dialBackAfter = 250 * time.Millisecond
	warmTimeout   = 3 * time.Second // for a connection that is opened in advance
	warmLife      = 4 * time.Second // for it to be used; less than readHeaderTimeout of the other side
	maxOverlap    = 4               // attempts to open one connection to a link-local address
	overlapAfter  = 250 * time.Millisecond

	// Holding.
	backoffMin   = 300 * time.Millisecond
	backoffMax   = 10 * time.Second
	helloEvery   = 30 * time.Second
	helloTimeout = 10 * time.Second // on a connection that is open
	// How long a held peer has to connect to us before we open a connection for it,
	// and how long it waits for that one when it cannot dial.
	reverseAfter = 500 * time.Millisecond
	reverseWait  = 3 * time.Second
	retireAfter  = time.Second // the connection that a better one replaces
	// A path that should carry data and does not is doubted: it is given up when
	// another one answers and it does not, so that a transfer stands still for at
	// most 2 s. Without another way the kernel's patience counts.
	stallLook     = 100 * time.Millisecond // between two looks, while data is waited for
	stallAfter    = 500 * time.Millisecond // without a byte
	doubtPatience = 750 * time.Millisecond // for a hello on the path in doubt
	doubtEvery    = 2 * time.Second        // after it was found to carry, while nothing moves

	// Checks whether connections from outside get in.
	inboundTimeout  = 2500 * time.Millisecond // for the dial; a SYN is repeated after 1 s
	inboundPatience = 5 * time.Second         // for the answer
	inboundEvery    = 5 * time.Second         // for one device
	inboundBurst    = 4
	inboundStranger = time.Second // for all strangers
	inboundAtOnce   = 4
	firstUserPort   = 1024 // below are the services of others
	maxInbound      = 256  // bytes of a question or an answer
	maxGreeting     = 512  // bytes of the header that says who asks

	// Sockets. The keep-alive values find a silent peer in 9 to 10 s: the kernel
	// asks after keepIdle of silence, then every keepInterval, and gives up when
	// nothing was heard for userTimeout.
	keepIdle     = 5 * time.Second
	keepInterval = time.Second
	keepCount    = 5
	userTimeout  = 9 * time.Second
	// serveTimeout is the same where we serve: there a receiver that does not read
	// (a slow card, a paused transfer) counts as silent too and needs patience.
	serveTimeout = 30 * time.Second
	// notSentLowat bounds what waits unsent in the kernel, so that a cancel or a
	// change of path takes effect at once.
	notSentLowat = 128 << 10
	// flushBytes is how many bytes of records are gathered for one write.
	flushBytes = 256 << 10
	// readBytes is the largest buffer below TLS; it grows with use.
	readBytes = 256 << 10
)
