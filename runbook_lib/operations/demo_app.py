"""The demonstration application `probe.war`: it answers with the node's name, the session's id and a counter of the session.

Two text files in a zip, so that nobody needs a compiler: the product compiles the page (JSP). Chapter 06 asks it
whether sessions stay, and the failover drill requests it. A caller sees nothing but its own session and the node's name.
"""

from __future__ import annotations

import io
import zipfile

NAME = "probe.war"
PATH = "/probe/"
# Runs on Java 7 and Servlet 3.0, which AS 5.3.0 is (facts 7), and later. No blank line before the text: it is JSON.
PAGE = """\
<%@ page language="java" contentType="application/json;charset=UTF-8" session="true" trimDirectiveWhitespaces="true" %>
<%
int count;
synchronized (session) {
    Object before = session.getAttribute("counter");
    count = before == null ? 1 : (Integer) before + 1;
    session.setAttribute("counter", count);
}
response.setHeader("Cache-Control", "no-store");
String host = java.net.InetAddress.getLocalHost().getHostName();
%>
{"node":"<%= request.getLocalAddr() %>","host":"<%= host %>","session":"<%= session.getId() %>","counter":<%= count %>}
"""
DESCRIPTOR = """\
<?xml version="1.0" encoding="utf-8"?>
<web-app xmlns="http://java.sun.com/xml/ns/javaee" version="3.0" metadata-complete="true">
    <display-name>Which node, which session (demonstration application of the WSO2 cluster runbook)</display-name>
    <welcome-file-list>
        <welcome-file>index.jsp</welcome-file>
    </welcome-file-list>
</web-app>
"""
FILES = {"index.jsp": PAGE, "WEB-INF/web.xml": DESCRIPTOR}
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same bytes each time, so that deploying it again is no change


def archive() -> bytes:
    """Return the bytes of the war file; they are the same at every call."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as war:
        for name, text in FILES.items():
            war.writestr(zipfile.ZipInfo(name, LONG_AGO), text.encode())
    return made.getvalue()
