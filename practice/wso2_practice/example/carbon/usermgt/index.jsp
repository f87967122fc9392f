<%@ page contentType="text/html; charset=UTF-8" %>
<!doctype html>
<title>Practice server: the sample "example"</title>
<h1>Practice server, not WSO2</h1>
<p>The real pack's page here adds and deletes users, and asks nobody who he is (facts 5.2). This one does nothing, and answers <%= request.getMethod() %>.</p>
