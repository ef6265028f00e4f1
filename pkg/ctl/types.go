// Package ctl is the control protocol between ikegod and its operators: the types, the client, and the server's framing. It is HTTP/1.1 with JSON on
// a Unix socket, so that curl speaks it too:
//
//	curl --unix-socket /run/ikegod/control.sock http://ikegod/v1/status
//	curl --unix-socket /run/ikegod/control.sock -N -X POST http://ikegod/v1/connections/NAME/up
//
// What happens over time comes as NDJSON, one object a line. The package knows nothing of IKE: the daemon implements Service.
package ctl

import "time"

// Names inside the run directory. The daemon holds a lock (flock(2)) on LockName, which holds its process number, for as long as it lives.
const (
	SocketName = "control.sock"
	LockName   = "ikegod.pid"
)

// Status describes the daemon as a whole (GET /v1/status).
type Status struct {
	Version     string       `json:"version"`
	PID         int          `json:"pid"`
	Started     time.Time    `json:"started"`
	RunDir      string       `json:"rundir"`
	Config      string       `json:"config"`
	Backend     string       `json:"backend"`               // the datapath that runs: "userspace", "xfrm" or "xfrm and userspace"
	BackendWhy  string       `json:"backend_why,omitempty"` // why this one
	Notes       []string     `json:"notes,omitempty"`       // what this datapath or system lacks, a sentence each
	Listening   []Socket     `json:"listening"`
	Loaded      int          `json:"connections_loaded"`
	IKESAs      int          `json:"ike_sas"`
	HalfOpen    int          `json:"half_open"`
	ChildSAs    int          `json:"child_sas"`
	Drops       []Drop       `json:"drops,omitempty"`       // what was dropped since the start, by part and reason
	Diagnostics []Diagnostic `json:"diagnostics,omitempty"` // of the configuration that was loaded last
}

// Drop is how many packets a part of the daemon has dropped for one reason.
type Drop struct {
	Part     string `json:"part"` // "IKE", "transport" or "datapath"
	Reason   string `json:"reason"`
	Count    uint64 `json:"count"`
	Meaning  string `json:"meaning"`
	Todo     string `json:"todo"`
	Harmless bool   `json:"harmless,omitempty"` // part of normal work
}

// Socket is one that the daemon listens on.
type Socket struct {
	Carrier string `json:"carrier"` // "UDP", "TCP" or "ESP" (plain ESP, IP protocol 50)
	Address string `json:"address"` // "0.0.0.0:500"; ESP has no port
}

// Path is the way that messages take.
type Path struct {
	Carrier string `json:"carrier"`
	Local   string `json:"local"`
	Remote  string `json:"remote"`
}

// IKESA is one IKE SA (GET /v1/sas streams them). Times are zero where the moment has not come.
type IKESA struct {
	Connection  string    `json:"connection"`
	Instance    int       `json:"instance,omitempty"` // number of this peer of a template, right=%any
	State       string    `json:"state"`
	Initiator   bool      `json:"initiator"`
	SPIi        string    `json:"spi_i"`
	SPIr        string    `json:"spi_r"`
	LocalID     string    `json:"local_id,omitempty"`
	RemoteID    string    `json:"remote_id,omitempty"`
	Path        Path      `json:"path"`
	Algorithms  string    `json:"algorithms,omitempty"`
	NATLocal    bool      `json:"nat_local"`
	NATRemote   bool      `json:"nat_remote"`                     // or the peer asks for encapsulation
	Forced      bool      `json:"encapsulation_forced,omitempty"` // this host asks for it
	Established time.Time `json:"established,omitzero"`
	Retransmits int       `json:"retransmits"`
	Children    []ChildSA `json:"children"`
}

// ChildSA is one Child SA with its counters, which are octets and packets of inner traffic.
type ChildSA struct {
	Name       string    `json:"name"` // that of the connection, or with leftsubnets= NAME/1x2
	Connection string    `json:"connection"`
	Instance   int       `json:"instance,omitempty"`
	SPIIn      string    `json:"spi_in"`
	SPIOut     string    `json:"spi_out"`
	Local      string    `json:"local_ts"`
	Remote     string    `json:"remote_ts"`
	Mode       string    `json:"mode,omitempty"` // tunnel, transport
	Algorithms string    `json:"algorithms,omitempty"`
	Carrier    string    `json:"carrier,omitempty"`      // how its ESP travels: "ESP", "ESPinUDP" or "ESPinTCP"
	Datapath   string    `json:"datapath,omitempty"`     // what seals and opens it: "userspace" or "xfrm"
	Why        string    `json:"datapath_why,omitempty"` // why that one, where both run
	Installed  time.Time `json:"installed,omitzero"`
	InPackets  uint64    `json:"in_packets"`
	InBytes    uint64    `json:"in_bytes"`
	OutPackets uint64    `json:"out_packets"`
	OutBytes   uint64    `json:"out_bytes"`
	LastIn     time.Time `json:"last_in,omitzero"`
	LastOut    time.Time `json:"last_out,omitzero"`
}

// Connection is a loaded connection (GET /v1/connections).
type Connection struct {
	Name       string    `json:"name"`
	State      string    `json:"state"`
	Shunt      string    `json:"shunt,omitempty"`    // passthrough, drop or reject: it is a policy without IKE, and its state is down or in place
	Position   string    `json:"position,omitempty"` // file:line
	Auto       string    `json:"auto,omitempty"`
	Wanted     bool      `json:"wanted"` // somebody asked for it, and revival keeps it up
	Local      End       `json:"local"`
	Remote     End       `json:"remote"`
	TCP        string    `json:"enable_tcp,omitempty"`
	Why        string    `json:"why,omitempty"` // why it is not oriented
	Path       *Path     `json:"path,omitempty"`
	LastError  string    `json:"last_error,omitempty"`
	NextTry    time.Time `json:"next_try,omitzero"`
	Algorithms string    `json:"ike,omitempty"`
	ESP        string    `json:"esp,omitempty"`
	Children   []Child   `json:"children,omitempty"` // what it protects, a Child SA each
	ChildrenUp int       `json:"children_up"`        // how many of them are up; zero for a template, whose Child SAs are its peers'
}

// Child is one Child SA that a connection is to have. Selectors are empty for a host whose address is not known.
type Child struct {
	Name   string `json:"name"`
	Local  string `json:"local,omitempty"`
	Remote string `json:"remote,omitempty"`
	Up     bool   `json:"up"`
}

// End is one side of a connection.
type End struct {
	Host      string `json:"host"`
	ID        string `json:"id,omitempty"`
	Subnets   string `json:"subnets,omitempty"`
	ProtoPort string `json:"protoport,omitempty"` // leftprotoport=, which Subnets hold too
}

// Explanation says with what a connection would be negotiated, and which connection a peer would get (GET /v1/connections/NAME/explain?peer=ADDRESS&id=ID).
type Explanation struct {
	Connection string      `json:"connection"`
	Position   string      `json:"position,omitempty"`
	Why        string      `json:"why,omitempty"`   // why it cannot be used on this host
	Shunt      string      `json:"shunt,omitempty"` // what a connection without IKE does, and with which traffic: no peer gets it
	Local      End         `json:"local"`           // this host's end
	Remote     End         `json:"remote"`          // the end of the peer, who is asked about
	Settings   []Setting   `json:"settings"`        // what counts, and where it stands
	Secret     SecretUsed  `json:"secret,omitzero"` // which record of ipsec.secrets, never what is in it
	Candidates []Candidate `json:"candidates"`
	Chosen     string      `json:"chosen,omitempty"` // the connection that the peer gets
	Fails      string      `json:"fails,omitempty"`  // why it would be refused there all the same, such as for want of a secret
}

// Setting is one keyword of a connection.
type Setting struct {
	Keyword  string `json:"keyword"`
	Value    string `json:"value"`
	Position string `json:"position,omitempty"` // file:line; empty: the default
}

// SecretUsed is the record of ipsec.secrets that serves two identities.
type SecretUsed struct {
	Position string   `json:"position,omitempty"` // file:line; empty: none fits
	Why      string   `json:"why,omitempty"`      // in which way it fits
	Others   []string `json:"others,omitempty"`   // records that fit less well
	Lacking  string   `json:"lacking,omitempty"`  // when none fits: what came near, and what to write
}

// Candidate is a connection, and why a peer would not get it.
type Candidate struct {
	Connection string `json:"connection"`
	Position   string `json:"position,omitempty"`
	Fits       string `json:"fits,omitempty"` // "address" or "template"; empty: not for the peer's address
	Why        string `json:"why,omitempty"`  // why not this one
}

// Event is one line of progress. The last line of a stream carries a Result instead of a Text.
type Event struct {
	At         time.Time `json:"at,omitzero"`
	Level      string    `json:"level,omitempty"` // debug, info, warn, error
	Kind       string    `json:"kind,omitempty"`
	Connection string    `json:"connection,omitempty"`
	Child      string    `json:"child,omitempty"`
	SA         string    `json:"sa,omitempty"`
	Path       *Path     `json:"path,omitempty"`
	Text       string    `json:"text,omitempty"`
	Result     *Result   `json:"result,omitempty"`
}

// Result ends a stream.
type Result struct {
	OK    bool   `json:"ok"`
	Error *Error `json:"error,omitempty"`
}

// Diagnostic is one finding about a configuration file.
type Diagnostic struct {
	Severity   string `json:"severity"` // error or warning
	File       string `json:"file"`
	Line       int    `json:"line"`
	Column     int    `json:"column"`
	Width      int    `json:"width,omitempty"`
	Connection string `json:"connection,omitempty"` // the connection that is refused because of it
	Text       string `json:"text"`
	Suggestion string `json:"suggestion,omitempty"`
	Source     string `json:"source,omitempty"` // the line itself, for the caret; never a line of ipsec.secrets
}

// LoadReport says what a reload, add or rereadsecrets did.
type LoadReport struct {
	Added       []string     `json:"added,omitempty"`
	Removed     []string     `json:"removed,omitempty"`
	Changed     []string     `json:"changed,omitempty"`
	Refused     []string     `json:"refused,omitempty"` // left out because of errors
	Unchanged   int          `json:"unchanged"`
	Secrets     int          `json:"secrets"`
	Diagnostics []Diagnostic `json:"diagnostics,omitempty"`
}
