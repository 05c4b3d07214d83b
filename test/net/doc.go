// Package net holds scripts (txtar, see github.com/rogpeppe/go-internal/testscript) that run vitro on hosts made of network
// namespaces: nothing of it is seen on the machine's own links and rules.
//
//	lan ─────────── router ─────────── h1, h2: container hosts
//	198.51.100.2    .1 │ 203.0.113.1   203.0.113.2, both with vitro0 and the same container subnet
//	2001:db8:1::2      │ 203.0.113.5   203.0.113.6
//	                   and 2001:db8:2::1, ::2 (h1), 2001:db8:3::1, ::2 (h2)
//
// The router knows no way to a container subnet. A script runs a program on a host by its name: `exec h1 vitro ps`. h1 and
// h2 have a /run and a /var/lib of their own, so that vitro is there with its defaults. The namespaces are $LAN, $ROUTER,
// $H1 and $H2 to `ip -n`. Image bb is Debian's busybox with a CGI program that answers with the client's address.
package net
